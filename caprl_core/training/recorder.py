"""Writes down what happens: a line a step, a line an evaluation, and every rollout. On the main process alone."""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from caprl_core.captioning.checks import is_repetitive
from caprl_core.qa.question import Question, question_id
from caprl_core.recipe.training import TrainingRecipe
from caprl_core.reward.score import Score
from caprl_core.training.curve import HELD_OUT, METRICS, append_line
from caprl_core.training.rollouts import Rollout, rollout_rows, write_rollouts
from caprl_core.training.trainer import StepRollouts

_FROM_TRL = {
    "loss": "loss",
    "reward": "reward",
    "reward_std": "reward_std",
    "kl": "kl",
    "entropy": "entropy",
    "learning_rate": "learning_rate",
    "grad_norm": "grad_norm",
    **{f"time/{part}_s": f"{part}_s" for part in ("rollout", "reader", "update", "rest", "step")},
}
"""TRL's names of metrics, and ours."""


class Recorder:
    """The records of a run below `folder`; `tell` is told each line as an event."""

    def __init__(
        self,
        folder: Path,
        recipe: TrainingRecipe,
        questions: Mapping[str, Sequence[Question]],
        tell: Callable[[dict[str, Any]], None],
    ) -> None:
        """`questions` of every picture by key."""
        self._folder = folder
        self._recipe = recipe
        self._by_id = {key: {question_id(key, one): one for one in some} for key, some in questions.items()}
        self._tell = tell
        self.second: Callable[[Sequence[Rollout]], Sequence[Score]] | None = None
        """Scores held-out captions by another reader; None where the recipe has none."""
        self._step: dict[str, Any] = {}
        self._best: float | None = None

    def restore_best(self, lines: Sequence[Mapping[str, Any]]) -> None:
        """What an earlier attempt's evaluations came to."""
        rewards: list[float] = [line["reward"] for line in lines if line.get("reward") is not None]
        self._best = max(rewards, default=None)

    def seen(self, step: StepRollouts) -> None:
        """A step's rollouts, or an evaluation's."""
        kind = "held_out" if step.held_out else "rollouts"
        size = 1 if step.held_out else self._recipe.grpo.rollouts
        table = rollout_rows(
            step.step,
            step.rollouts,
            [place % size for place in range(len(step.rollouts))],
            self._by_id,
            abstain=self._recipe.reward.abstain,
            advantages=step.advantages,
        )
        write_rollouts(table, self._folder / kind / f"step-{step.step:06d}.parquet")
        if step.held_out:
            self._evaluated(step)
        else:
            self._step = summary(step.rollouts)

    def logged(self, step: int, logs: Mapping[str, Any]) -> dict[str, Any] | None:
        """A log of the trainer; the line it made, if it was that of a step."""
        if "loss" not in logs or "learning_rate" not in logs:
            return None
        line = {"step": step, **{ours: logs[theirs] for theirs, ours in _FROM_TRL.items() if theirs in logs}}
        line |= self._step | {"at": time.time()}
        append_line(self._folder / METRICS, line)
        self._tell({"event": "step", "steps": self._recipe.steps, **line})
        return line

    def _evaluated(self, step: StepRollouts) -> None:
        line = {"step": step.step, "reward": mean_reward(step.rollouts), **summary(step.rollouts)}
        if self.second is not None:
            scores = self.second(step.rollouts)
            known = [score.reward for score in scores if score.reward is not None]
            line["second_reward"] = sum(known) / len(known) if known else None
        reward = line["reward"]
        best = reward is not None and (self._best is None or reward > self._best)
        if best:
            self._best = reward
        append_line(self._folder / HELD_OUT, line | {"best": best, "at": time.time()})
        self._tell({"event": "held_out", **line, "best": best})


def mean_reward(rollouts: Sequence[Rollout]) -> float | None:
    """Mean over the captions that have a reward; None if none has."""
    known = [one.score.reward for one in rollouts if one.score.reward is not None]
    return sum(known) / len(known) if known else None


def summary(rollouts: Sequence[Rollout]) -> dict[str, Any]:
    """What a set of rollouts looks like; shares are 0 to 1, None where there is nothing to divide by."""
    outcomes = [draw.outcome for one in rollouts for draw in one.score.draws]
    answered = len(outcomes) - outcomes.count("failed")
    accuracies = [one.score.accuracy for one in rollouts if one.score.accuracy is not None]
    count = len(rollouts)
    return {
        "captions": count,
        "length_mean": _share(sum(one.tokens for one in rollouts), count),
        "length_max": max((one.tokens for one in rollouts), default=0),
        "truncated": _share(sum(one.truncated for one in rollouts), count),
        "repetitive": _share(sum(is_repetitive(one.caption) for one in rollouts), count),
        "no_reward": _share(sum(one.score.reward is None for one in rollouts), count),
        "accuracy": _share(sum(accuracies), len(accuracies)),
        "abstained": _share(outcomes.count("abstained"), answered),
        "unread": _share(outcomes.count("unread"), answered),
        "failed": _share(outcomes.count("failed"), len(outcomes)),
        "draws": len(outcomes),
    }


def _share(part: float, whole: int) -> float | None:
    return part / whole if whole else None
