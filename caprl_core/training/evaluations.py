"""What training came to, by the pictures it never learnt from: before it, at its best, and at its end."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from caprl_core.errors import IncompleteError
from caprl_core.training.curve import HELD_OUT, read_lines
from caprl_core.training.page.run_files import best_evaluation, number

Evaluation = Mapping[str, Any]
"""A line of `held_out.jsonl`."""


class Evaluations(NamedTuple):
    """The evaluations of a run that have a reward; `before` is that of step 0, None if that has none."""

    before: Evaluation | None
    best: Evaluation
    last: Evaluation
    lines: tuple[Evaluation, ...]

    def summary(self) -> dict[str, Any]:
        """Plain figures: step and held-out reward of each."""
        named = {"before": self.before, "best": self.best, "last": self.last}
        return {name: line and {"step": line["step"], "reward": line["reward"]} for name, line in named.items()}


def read_evaluations(work: Path) -> Evaluations:
    """The evaluations of the run in `work`. Raises `IncompleteError` when there is none with a reward."""
    lines = read_lines(work / HELD_OUT)
    known = tuple(line for line in lines if number(line, "reward") is not None)
    best = best_evaluation(known)
    if best is None:
        why = f"{len(lines)} evaluations, none with a reward: the reader answered too little" if lines else "no line"
        raise IncompleteError(f"{work / HELD_OUT}: {why}, so nothing is known about the captioner of this run")
    return Evaluations(next((line for line in known if line["step"] == 0), None), best, known[-1], known)
