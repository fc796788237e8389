"""Axes of charts: where the marks stand, and numbers of any size as people read them."""

import math
from collections.abc import Sequence
from typing import Final

from caprl_core.report.charts import NOTHING

_NICE: Final = (1.0, 2.0, 5.0, 10.0)
_ALIKE: Final = 1e-9  # of the number itself: what differs by less is drawn as one value
_TINY: Final = 1e-290  # above the smallest numbers, which cannot be divided without loss


def ticks(low: float, high: float, most: int = 5, *, whole: bool = False) -> list[float]:
    """`most` (3 or more) round values at most, one at or below `low`, one at or above `high`, equally far apart.

    `whole` numbers only (below 2**50) where those are counted. Where `high` is hardly above `low`, the values reach
    further: to half as much again, or by 1.
    """
    if whole:
        low, high = math.floor(low), math.ceil(high)
    if not high - low > max(_ALIKE * max(abs(low), abs(high)), 0.5 if whole else _TINY):
        high = low + (1.0 if whole or abs(low) < _TINY else abs(low) / 2)
    step = (high - low) / (most - 1)
    power = 10.0 ** math.floor(math.log10(step))
    while True:
        for nice in _NICE:
            gap = max(1.0, nice * power) if whole else nice * power
            first, last = math.floor(low / gap + 1e-9), math.ceil(high / gap - 1e-9)
            if gap >= step * (1 - 1e-9) and last - first < most:
                return [place * gap for place in range(first, last + 1)]
        power *= 10


def inner_ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round whole numbers from `low` to `high`, neither outside; `low` alone where there is no other."""
    found = [value for value in ticks(low, high, most, whole=True) if low <= value <= high]
    return found or [low]


def tick_text(value: float, marks: Sequence[float]) -> str:
    """A mark of an axis, all of them with as many decimals as their distance needs."""
    gap = abs(marks[1] - marks[0]) if len(marks) > 1 else abs(value)
    largest = max(map(abs, marks), default=0.0)
    if value == 0:
        return "0"
    if largest >= 1e6 or largest < 1e-3:
        return _scientific(value)
    decimals = max(0, -math.floor(math.log10(gap) + 1e-9)) if gap else 0
    return f"{value:,.{decimals}f}"


def figure(value: float | None) -> str:
    """A measure with three digits that count: 0.542, 3.02, 63.1, 1,204, 3e-4; a dash for none."""
    if value is None or not math.isfinite(value):
        return NOTHING
    size = abs(value)
    if value == 0:
        return "0"
    if size < 1e-3 or size >= 1e7:
        return _scientific(value)
    if value == round(value) or size >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3f}" if size < 1 else f"{value:.2f}" if size < 10 else f"{value:.1f}"


def _scientific(value: float) -> str:
    """3e-4 and 2.1e+9: as learning rates are written."""
    digits, _, power = f"{value:.1e}".partition("e")
    return f"{digits.removesuffix('.0')}e{int(power)}"
