"""A run folder as the page reads it: whatever is there already, of a run that may be going on or was killed."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from caprl_core.errors import BadInputError

_HELD_OUT: Final = re.compile(r"step-(\d{1,12})\.parquet")
_PICTURE: Final = ".png"
_NO_MEASURE: Final = 1e100  # sums of such numbers are still finite


@dataclass(frozen=True, slots=True)
class RunFiles:
    """What a run folder holds.

    about:       `run.json`; empty where there is none yet.
    steps:       `metrics.jsonl`, a line a step, ascending; of a step written twice the later line.
    evaluations: `held_out.jsonl`, likewise.
    stopped:     `stopped.json`, or None for a run that was not stopped early.
    held_out:    parquet files of held-out captions by step, ascending.
    pictures:    files of the watched pictures by key, in the order the run names them.
    """

    folder: Path
    about: Mapping[str, Any]
    steps: Sequence[Mapping[str, Any]]
    evaluations: Sequence[Mapping[str, Any]]
    stopped: Mapping[str, Any] | None
    held_out: Mapping[int, Path]
    pictures: Mapping[str, Path]


def read_run(folder: Path) -> RunFiles:
    """Everything but the captions, which are read picture by picture. Raises `BadInputError` for what is no folder."""
    if not folder.is_dir():
        raise BadInputError(f"{folder}: no folder of a training run")
    about, stopped = _object(folder / "run.json"), _object(folder / "stopped.json")
    return RunFiles(
        folder=folder,
        about=about or {},
        steps=_by_step(read_lines(folder / "metrics.jsonl")),
        evaluations=_by_step(read_lines(folder / "held_out.jsonl")),
        stopped=stopped,
        held_out=_held_out(folder / "held_out"),
        pictures=_pictures(folder / "pictures", (about or {}).get("watched")),
    )


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The JSON objects of a file of lines, none without a file. Other lines, such as a torn one, are left out."""
    found = []
    try:
        with path.open("rb") as file:
            for line in file:
                value = _parsed(line)
                if isinstance(value, dict):
                    found.append(value)
    except (FileNotFoundError, NotADirectoryError):
        return []
    return found


def number(values: Mapping[str, Any], name: str) -> float | None:
    """A number among the values, or None for everything else that may stand there; beyond 1e100 it measures nothing."""
    value = values.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        real = float(value)
    except OverflowError:
        return None
    return real if abs(real) < _NO_MEASURE else None  # false for NaN, too


def column(lines: Sequence[Mapping[str, Any]], name: str) -> list[tuple[float, float]]:
    """(step, value) of the lines that have a number under the name."""
    return [(line["step"], value) for line in lines if (value := number(line, name)) is not None]


def best_evaluation(evaluations: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The last one marked as the best so far; where none is marked, the first with the highest reward."""
    marked = [line for line in evaluations if line.get("best") is True]
    if marked:
        return marked[-1]
    rewarded = [line for line in evaluations if number(line, "reward") is not None]
    return max(rewarded, key=lambda line: number(line, "reward") or 0.0) if rewarded else None


def _by_step(lines: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    found = {}
    for line in lines:
        step = line.get("step")
        if isinstance(step, int) and not isinstance(step, bool) and 0 <= step < 2**53:
            found[step] = line
    return [found[step] for step in sorted(found)]


def _object(path: Path) -> dict[str, Any] | None:
    try:
        value = _parsed(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    return value if isinstance(value, dict) else None


def _parsed(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def _held_out(folder: Path) -> dict[int, Path]:
    found = {int(match[1]): path for path in _files(folder) if (match := _HELD_OUT.fullmatch(path.name))}
    return dict(sorted(found.items()))


def _pictures(folder: Path, watched: Any) -> dict[str, Path]:
    """`watched` of `run.json` names the file of each key; a run without it has files named by the keys.

    Files are found by listing, never by joining a name, so that no name leads out of the folder.
    """
    files = {path.name: path for path in _files(folder)}
    if isinstance(watched, dict):
        return {key: files[name] for key, name in watched.items() if isinstance(name, str) and name in files}
    return {path.stem: path for path in files.values() if path.suffix == _PICTURE}


def _files(folder: Path) -> Iterator[Path]:
    """Files right below the folder, in order of their names; links are not followed."""
    if folder.is_dir():
        yield from sorted(path for path in folder.iterdir() if path.is_file() and not path.is_symlink())
