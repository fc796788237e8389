"""The watched pictures of a run: their captions at a few checkpoints, with every question asked about them."""

from bisect import bisect, insort
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from caprl_core.qa.question import LETTERS
from caprl_core.training.page.run_files import RunFiles, best_evaluation, number

MOST_COLUMNS: Final = 5
"""Checkpoints side by side at most."""
MOST_PICTURES: Final = 12
"""Pictures of the page at most: each takes some 50 kB, and up to five captions."""
_COLUMNS: Final = ("key", "caption", "tokens", "truncated", "reward", "accuracy", "reason", "draws")
_ROWS: Final = 256  # read at a time


@dataclass(frozen=True, slots=True)
class Asked:
    """One draw. right and said: the text of the right option and of what the reader named, where there is one."""

    question: str
    stem: str
    right: str | None
    said: str | None
    outcome: str
    reply: str


@dataclass(frozen=True, slots=True)
class WatchedCaption:
    """A greedy caption of a picture at a checkpoint, and what it earned."""

    text: str
    tokens: float | None
    truncated: bool
    reward: float | None
    reason: str | None
    draws: tuple[Asked, ...]


@dataclass(frozen=True, slots=True)
class WatchedPicture:
    """A picture, and its captions by step; a step at which it was not captioned is missing."""

    key: str
    file: Path
    captions: Mapping[int, WatchedCaption]


def chosen_steps(steps: Sequence[int], best: int | None, most: int = MOST_COLUMNS) -> list[int]:
    """Of ascending steps the first, the best and the last, and others from the middle of the widest gap between."""
    if not steps:
        return []
    chosen = sorted({steps[0], steps[-1], *(step for step in steps if step == best)})
    while len(chosen) < min(most, len(steps)):

        def rank(step: int) -> tuple[int, int]:
            place = bisect(chosen, step)
            before, after = chosen[place - 1], chosen[place]
            return after - before, -abs(2 * step - before - after)

        insort(chosen, max((step for step in steps if step not in chosen), key=rank))
    return chosen


def watched_pictures(run: RunFiles, most: int = MOST_PICTURES) -> tuple[list[int], list[WatchedPicture]]:
    """The chosen steps, and the first `most` pictures that have a file and a caption at one of them.

    A parquet file that cannot be read (it may be half copied) is as good as none.
    """
    best = best_evaluation(run.evaluations)
    left = list(run.held_out)
    found: dict[int, dict[str, WatchedCaption]] = {}
    while True:
        steps = chosen_steps(left, None if best is None else best["step"])
        unread = [step for step in steps if step not in found]
        if not unread:
            break
        for step in unread:
            try:
                found[step] = dict(_captions(run.held_out[step], run.pictures))
            except (OSError, pa.ArrowException):
                left.remove(step)
    keys = [key for key in run.pictures if any(key in found[step] for step in steps)]
    return steps, [
        WatchedPicture(key, run.pictures[key], {step: found[step][key] for step in steps if key in found[step]})
        for key in keys[:most]
    ]


def _captions(path: Path, keys: Mapping[str, Path]) -> Iterator[tuple[str, WatchedCaption]]:
    """The rows of these keys, reading only the columns the page shows."""
    with pq.ParquetFile(path) as file:
        names = [name for name in _COLUMNS if name in file.schema_arrow.names]
        if "key" not in names or not keys:
            return
        for batch in file.iter_batches(batch_size=_ROWS, columns=names):
            wanted = [place for place, key in enumerate(batch.column("key").to_pylist()) if key in keys]
            for row in batch.take(pa.array(wanted, pa.int64())).to_pylist():
                yield row["key"], _caption(row)


def _caption(row: Mapping[str, Any]) -> WatchedCaption:
    draws = row.get("draws")
    return WatchedCaption(
        text=_text(row.get("caption")) or "",
        tokens=number(row, "tokens"),
        truncated=row.get("truncated") is True,
        reward=number(row, "reward"),
        reason=_text(row.get("reason")),
        draws=tuple(_asked(draw) for draw in draws if isinstance(draw, dict)) if isinstance(draws, list) else (),
    )


def _asked(draw: Mapping[str, Any]) -> Asked:
    stem = _text(draw.get("stem")) or ""
    return Asked(
        question=_text(draw.get("question_id")) or stem,
        stem=stem,
        right=_option(draw, "gold"),
        said=_option(draw, "letter"),
        outcome=_text(draw.get("outcome")) or "",
        reply=_text(draw.get("reply")) or "",
    )


def _option(draw: Mapping[str, Any], name: str) -> str | None:
    """The text of the option that a letter names, as it was shown."""
    letter, options = draw.get(name), draw.get("options")
    if not isinstance(letter, str) or not isinstance(options, list):
        return None
    place = LETTERS.find(letter) if len(letter) == 1 else -1
    return _text(options[place]) if 0 <= place < len(options) else None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None
