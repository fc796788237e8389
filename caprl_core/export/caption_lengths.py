"""How long captions are: exact distributions in the memory of their distinct lengths."""

from collections import Counter
from typing import Any, NamedTuple

QUANTILES = (0.05, 0.5, 0.95)


class LengthSummary(NamedTuple):
    """Of one unit: mean, smallest, the lengths at `QUANTILES`, largest."""

    mean: float
    least: int
    quantiles: tuple[int, ...]
    most: int


class CaptionLengths:
    """Counts characters and tokens, and captions that ended at the limit."""

    def __init__(self) -> None:
        self._characters: Counter[int] = Counter()
        self._tokens: Counter[int] = Counter()
        self.truncated = 0

    def add(self, row: dict[str, Any]) -> None:
        """One row of the captioning stage."""
        self._characters[len(row["caption"])] += 1
        self._tokens[row["completion_tokens"]] += 1
        self.truncated += row["finish_reason"] == "length"

    def summaries(self) -> dict[str, LengthSummary]:
        """Unit -> summary; empty when there is no row."""
        units = {"characters": self._characters, "tokens": self._tokens}
        return {name: _summary(counts) for name, counts in units.items() if counts}


def _summary(counts: Counter[int]) -> LengthSummary:
    total = counts.total()
    ranked = sorted(counts.items())
    found = []
    for quantile in QUANTILES:
        # The smallest length that at least this share of the captions does not exceed.
        seen = 0
        for length, number in ranked:
            seen += number
            if seen >= quantile * total:
                found.append(length)
                break
    mean = sum(length * number for length, number in ranked) / total
    return LengthSummary(mean, ranked[0][0], tuple(found), ranked[-1][0])
