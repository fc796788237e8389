"""Run folders changed on purpose, and what their pages then say."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from caprl_core.training.page.training_page import write_training_page
from support.page_reader import Read, read_harmless
from support.training_run import write_lines


def page_text(folder: Path) -> str:
    """The page of a run, written beside its folder."""
    return write_training_page(folder, folder.parent / f"{folder.name}.html").read_text()


def page_of(folder: Path) -> Read:
    """The page of a run as it reads, proven harmless."""
    return read_harmless(page_text(folder).encode())


def json_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a file of lines."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def change(path: Path, edit: Callable[[dict[str, Any]], Any]) -> None:
    """Edit every line of a file of lines, or the one object of a JSON file."""
    found = json_lines(path)
    for line in found:
        edit(line)
    write_lines(path, found)


def cards(read: Read) -> list[str]:
    """The text of each watched picture of a page."""
    section = read.said().partition("— not asked about that caption.")[2].partition(" Evaluations Evaluations:")[0]
    return re.split(r" (?=\d+\. scene-\d{3} )", section)[1:]


def draw(stem: str, outcome: str, letter: str | None = "B", reply: str = "B") -> dict[str, Any]:
    """A draw of the options `red` (A, right) and `blue` (B)."""
    shown = {"question_id": stem, "stem": stem, "options": ["red", "blue"], "gold": "A"}
    return {**shown, "letter": letter, "outcome": outcome, "reply": reply}


def captioned(run: Path, step: int, caption: str, draws: list[dict[str, Any]] | None = None, **other: Any) -> None:
    """Replace the evaluation of a step by one caption, of the first watched picture unless `other` has a key."""
    path = run / "held_out" / f"step-{step:06d}.parquet"
    row = {
        "step": step, "key": "scene-000", "rollout": 0, "caption": caption, "tokens": 5, "truncated": False,
        "reward": 0.5, "accuracy": 0.5, "advantage": None, "reason": None, "terms": [], "draws": draws or [],
    }  # fmt: skip
    write_rows(path, [row | other])


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    """Replace the rows of an evaluation, its columns as they are."""
    pq.write_table(pa.Table.from_pylist(rows, schema=pq.read_schema(path)), path)
