"""Whether the votes of a branch already decide on which side of its threshold the accuracy lies."""

from enum import Enum

from caprl_core.qa.evidence import interval, is_above, is_below
from caprl_core.qa.votes import Counts
from caprl_core.recipe.qa_stages import ThresholdsRecipe


class Standing(Enum):
    """How a branch stands: its interval clears the threshold, lies on the wrong side of it, or holds it."""

    CLEARED = "cleared"
    FAILED = "failed"
    UNDECIDED = "undecided"


def standing(found: Counts, thresholds: ThresholdsRecipe, *, visual: bool, level: float) -> Standing:
    """Where the interval of `level` (0.5 to 1) lies. A branch without votes that count is undecided.

    The interval is looked at after each round, so that over all rounds it errs more often than 1 - `level`.
    """
    if not found.trials:
        return Standing.UNDECIDED
    low, high = interval(found.successes, found.trials, level)
    if visual:
        cleared, possible = (is_above(end, thresholds.visual_above, thresholds.visual_inclusive) for end in (low, high))
    else:
        cleared, possible = (is_below(end, thresholds.text_below, thresholds.text_inclusive) for end in (high, low))
    if cleared:
        return Standing.CLEARED
    return Standing.UNDECIDED if possible else Standing.FAILED
