"""The checkpoints of a run: which are whole, which is the newest, which the best."""

import json
import re
import shutil
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

_NAME = re.compile(r"checkpoint-(\d+)")
WHOLE = "trainer_state.json"
"""Written last by transformers (Trainer._save_checkpoint), so a checkpoint that has it has everything."""


def newest_checkpoint(folder: Path) -> Path | None:
    """The whole checkpoint of the latest step in `folder`; None if there is none."""
    return next((path for _, path in sorted(_named(folder), reverse=True) if is_whole(path)), None)


def whole_checkpoints(folder: Path) -> dict[int, Path]:
    """Every whole checkpoint in `folder` by its step."""
    return {step: path for step, path in sorted(_named(folder)) if is_whole(path)}


def is_whole(checkpoint: Path) -> bool:
    """Whether it was written to its end.

    Its last file is opened and then filled, so a kill may leave an empty or a cut one: it has to be read, too.
    """
    try:
        state = json.loads((checkpoint / WHOLE).read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(state, dict) and state.get("global_step") == step_of(checkpoint)


def step_of(checkpoint: Path) -> int:
    """The step a checkpoint was made after."""
    match = _NAME.fullmatch(checkpoint.name)
    if match is None:
        raise ValueError(f"{checkpoint} is not called like a checkpoint")
    return int(match[1])


def remove_half_written(folder: Path) -> list[int]:
    """Delete what a kill left of checkpoints that were being written, or deleted; returns their steps."""
    left = [(step, path) for step, path in sorted(_named(folder)) if not is_whole(path)]
    for _, path in left:
        shutil.rmtree(path)
    return [step for step, _ in left]


def kept_steps(steps: Collection[int], evaluations: Iterable[Mapping[str, Any]], count: int) -> set[int]:
    """Of the steps the latest `count`, and the best one as well where it is an earlier one; see `best_step`."""
    best = best_step(evaluations, steps)
    return {*sorted(steps)[-count:], *(() if best is None else (best,))}


def remove_old(folder: Path, evaluations: Iterable[Mapping[str, Any]], count: int) -> None:
    """Delete the whole checkpoints in `folder` that are not to be kept; see `kept_steps`."""
    whole = whole_checkpoints(folder)
    for step in whole.keys() - kept_steps(whole, evaluations, count):
        (whole[step] / WHOLE).unlink()  # first, so that a kill leaves none that only looks whole
        shutil.rmtree(whole[step])


def best_step(evaluations: Iterable[Mapping[str, Any]], steps: Collection[int]) -> int | None:
    """Of the steps the one with the highest held-out reward, the later of equals; None if none was evaluated.

    `evaluations` are the lines of `held_out.jsonl`.
    """
    known = [(line["reward"], line["step"]) for line in evaluations if line.get("reward") is not None]
    return max(((reward, step) for reward, step in known if step in steps), default=(None, None))[1]


def _named(folder: Path) -> list[tuple[int, Path]]:
    """Step and folder of everything that is called like a checkpoint."""
    paths = list(folder.iterdir()) if folder.is_dir() else []
    return [(int(match[1]), path) for path in paths if (match := _NAME.fullmatch(path.name)) and path.is_dir()]
