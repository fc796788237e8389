"""What a scorer says of one reply."""

from dataclasses import dataclass
from typing import Protocol

from caprl_core.prism.question import BenchmarkQuestion


@dataclass(frozen=True, slots=True)
class Verdict:
    """points: 0 to 1. read: the answer found in the reply; None if there is none: no points, and counted apart."""

    points: float
    read: str | None


class Scorer(Protocol):
    """Pure and total: whatever a judge says."""

    name: str

    def check(self, question: BenchmarkQuestion) -> None:
        """Called when a benchmark is loaded. Raises `ValueError` for a gold answer that nothing can be scored by."""
        ...

    def score(self, question: BenchmarkQuestion, reply: str) -> Verdict:
        """What the reply is worth."""
        ...
