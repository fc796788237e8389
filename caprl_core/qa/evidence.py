"""What a handful of votes proves: exact intervals, and how often a blind guesser passes the text filter."""

import math
from functools import lru_cache

MOST_TRIALS = 1000
"""Beyond it a binomial coefficient no longer fits a float; a question is asked 64 times at most."""
_HALVINGS = 60
"""Halving [0, 1] so often leaves less than a float can tell apart."""


@lru_cache(maxsize=65536)
def interval(successes: int, trials: int, level: float) -> tuple[float, float]:
    """The exact two-sided interval of Clopper and Pearson (1934) for a share measured as `successes` of `trials`.

    Whatever the true share is, at least `level` of all measurements give an interval that holds it. (0, 1) for no
    trials. Raises `ValueError` unless 0 <= successes <= trials <= 1000 and 0 < level < 1.
    """
    if not 0 <= successes <= trials <= MOST_TRIALS or not 0 < level < 1:
        raise ValueError(f"no interval for {successes} of {trials} trials at level {level}")
    outside = (1 - level) / 2
    # The ends are where the tail beyond what was measured is just `outside`; at 0 and at all trials in closed form.
    low = 0.0 if successes == 0 else outside ** (1 / trials) if successes == trials else None
    if low is None:
        low = _where(trials, successes, trials, outside, rising=True)
    high = 1.0 if successes == trials else 1 - outside ** (1 / trials) if successes == 0 else None
    if high is None:
        high = _where(trials, 0, successes, outside, rising=False)
    return low, high


@lru_cache(maxsize=4096)
def blind_pass_chance(trials: int, letters: int, below: float, inclusive: bool) -> float:
    """How probable it is that who sees nothing and picks one of `letters` letters at random passes the text filter.

    He passes with a share of right picks below `below`, or equal to it if `inclusive`. No trials pass nobody: 0.
    Raises `ValueError` for more than 1000 trials or no letter.
    """
    if not 0 <= trials <= MOST_TRIALS or letters < 1:
        raise ValueError(f"no guesser picks {trials} times among {letters} letters")
    passing = [right for right in range(trials + 1) if trials and is_below(right / trials, below, inclusive)]
    return min(1.0, math.fsum(_chance(right, trials, 1 / letters) for right in passing))


def is_above(value: float, threshold: float, inclusive: bool) -> bool:
    """Whether the value exceeds the threshold, or equals it where that is allowed."""
    return value > threshold or (inclusive and value == threshold)


def is_below(value: float, threshold: float, inclusive: bool) -> bool:
    """Whether the value is below the threshold, or equals it where that is allowed."""
    return value < threshold or (inclusive and value == threshold)


def _chance(right: int, trials: int, share: float) -> float:
    return math.comb(trials, right) * share**right * (1 - share) ** (trials - right)


def _where(trials: int, first: int, last: int, wanted: float, *, rising: bool) -> float:
    """The share at which `first` to `last` successes are `wanted` probable; that rises or falls with the share."""
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        tail = math.fsum(_chance(right, trials, middle) for right in range(first, last + 1))
        if (tail < wanted) == rising:
            low = middle
        else:
            high = middle
    return (low + high) / 2
