"""When training has gone wrong: the curve is watched line by line for the ways in which a captioner collapses."""

import math
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, Final

from caprl_core.recipe.training import CollapseRecipe

_BROKEN_AT_ONCE: Final = ("loss", "grad_norm")
"""One step with such a number that is none has put it into every weight: AdamW takes the gradient as it is."""
_NEEDED: Final = ("loss", "reward", "grad_norm")
"""A reward may be missing for a step, when the reader answers nothing; for a whole window the run is blind."""


def weights_lost(figures: Mapping[str, Any]) -> str | None:
    """The figure of a step that says its weights are no numbers any more; None if none does."""
    return next(
        (name for name in _BROKEN_AT_ONCE if isinstance(figures.get(name), float) and _number(figures, name) is None),
        None,
    )


class CollapseWatch:
    """Told every line of `metrics.jsonl` in order, it says when to stop. Told the old lines again, it is what it was.

    Shares and lengths are judged by their mean over the last `window` lines, as far as those have a value; nothing is
    judged before there are so many. A figure that is not in the recipe (None) is not watched.
    """

    def __init__(self, recipe: CollapseRecipe) -> None:
        self._recipe = recipe
        self._beginning: list[Mapping[str, Any]] = []
        self._latest: deque[Mapping[str, Any]] = deque(maxlen=recipe.window)

    def add(self, line: Mapping[str, Any]) -> str | None:
        """The reason to stop after this line, with its figures and what to change; None to go on."""
        self._latest.append(line)
        if len(self._beginning) < self._recipe.window:
            self._beginning.append(line)
        if (broken := weights_lost(line)) is not None:
            return (
                f"{broken} was {line[broken]} at step {line.get('step')}: the weights are lost from there on, and not "
                "kept. Lower optimiser.learning_rate or optimiser.max_grad_norm, or take execution.precision: float32."
            )
        if len(self._latest) < self._recipe.window:
            return None
        return self._missing() or self._length() or self._share() or self._entropy()

    def _missing(self) -> str | None:
        for name in _NEEDED:
            if self._mean(name) is None:
                return f"There was no {name} {self._over()}. " + (
                    "The reader answered too few questions: see `failed` and `no_reward` in metrics.jsonl, its "
                    "engine (reward.execution.engine), and reward.min_answered."
                    if name == "reward"
                    else "It was not a number: lower optimiser.learning_rate."
                )
        return None

    def _length(self) -> str | None:
        factor = self._recipe.length_factor
        now, first = self._mean("length_mean"), _mean(self._beginning, "length_mean")
        if factor is None or now is None or not first or now < factor * first:
            return None
        return (
            f"Captions became {now / first:.1f} times longer: {now:.1f} tokens on average {self._over()}, {first:.1f} "
            f"in the first {len(self._beginning)}; the limit is {factor:g} times (collapse.length_factor). Let length "
            "cost something (reward.terms.length), let cut captions earn nothing (reward.terms.truncated: nothing), or "
            "raise grpo.kl."
        )

    def _share(self) -> str | None:
        recipe = self._recipe
        watched = (
            (
                "truncated",
                recipe.truncated,
                "of the captions were cut at the token limit",
                "Raise grpo.max_tokens, or let cut captions earn nothing (reward.terms.truncated: nothing).",
            ),
            (
                "repetitive",
                recipe.repetitive,
                "of the captions repeat themselves",
                "Raise grpo.kl, lower optimiser.learning_rate, or let length cost something (reward.terms.length).",
            ),
            (
                "abstained",
                recipe.abstained,
                "of its answers the reader declined to give",
                "The captions say nothing about what is asked: look at the rollouts; raise grpo.kl, lower "
                "optimiser.learning_rate, or check that the questions belong to their pictures.",
            ),
        )
        for name, limit, what, remedy in watched:
            mean = self._mean(name)
            if limit is not None and mean is not None and mean >= limit:
                return f"{mean:.1%} {what} {self._over()}; the limit is {limit:.0%} (collapse.{name}). {remedy}"
        return None

    def _entropy(self) -> str | None:
        least, mean = self._recipe.entropy_below, self._mean("entropy")
        if least is None or mean is None or mean >= least:
            return None
        return (
            f"The entropy was {mean:.2g} nats a token on average {self._over()}; the limit is {least:.2g} "
            "(collapse.entropy_below). The captions of a group no longer differ, so nothing is learnt from them: raise "
            "grpo.kl or grpo.temperature, or lower optimiser.learning_rate."
        )

    def _mean(self, name: str) -> float | None:
        return _mean(self._latest, name)

    def _over(self) -> str:
        return "in the last step" if self._recipe.window == 1 else f"over the last {self._recipe.window} steps"


def _mean(lines: Sequence[Mapping[str, Any]], name: str) -> float | None:
    """Over the lines that have a finite number there; None where none has."""
    known = [value for line in lines if (value := _number(line, name)) is not None]
    return sum(known) / len(known) if known else None


def _number(line: Mapping[str, Any], name: str) -> float | None:
    value = line.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        real = float(value)
    except OverflowError:
        return None
    return real if math.isfinite(real) else None
