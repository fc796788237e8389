"""The curve of a run: one JSON line a step and one an evaluation, cut back when a run resumes from a checkpoint."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

METRICS, HELD_OUT = "metrics.jsonl", "held_out.jsonl"


def append_line(path: Path, values: Mapping[str, Any]) -> None:
    """Add a line; numbers that are none (NaN, infinities) become null, as JSON has no word for them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    clean = {
        name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in values.items()
    }
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(clean, ensure_ascii=False) + "\n")


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a curve, in order, without one that a kill cut short; a missing file has none."""
    if not path.exists():
        return []
    found = []
    for line in path.read_bytes().splitlines():  # of bytes: text has more ends of lines than JSON lines have
        try:
            value = json.loads(line)
        except ValueError:
            continue
        if isinstance(value, dict) and isinstance(value.get("step"), int):
            found.append(value)
    return found


def cut_after(path: Path, step: int) -> None:
    """Drop the lines of steps after `step`: a run that resumes there makes them again."""
    if not path.exists():
        return
    kept = [line for line in read_lines(path) if line["step"] <= step]
    partial = path.with_suffix(".partial")
    partial.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in kept), encoding="utf-8")
    partial.replace(path)
