"""Who used the engine: the lane's busy time, shared out among the shards that had requests in it."""

import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

from caprl_core.storage.layout import Unit


class EngineMeter:
    """While requests are in the engine, wall seconds are split among units by their share of them.

    The units' seconds add up to the lane's busy seconds, so costs add up too. Used from one event loop.
    """

    def __init__(self) -> None:
        self._inside: Counter[Unit] = Counter()
        self._seconds: defaultdict[Unit, float] = defaultdict(float)
        self._since = time.monotonic()

    @contextmanager
    def asking(self, unit: Unit) -> Iterator[None]:
        """One request of a unit is in the engine."""
        self._settle()
        self._inside[unit] += 1
        try:
            yield
        finally:
            self._settle()
            self._inside[unit] -= 1
            if not self._inside[unit]:
                del self._inside[unit]

    def take(self, unit: Unit) -> float:
        """Seconds a unit has used since this was asked last."""
        self._settle()
        return self._seconds.pop(unit, 0.0)

    def _settle(self) -> None:
        now = time.monotonic()
        total = self._inside.total()
        if total:
            for unit, count in self._inside.items():
                self._seconds[unit] += (now - self._since) * count / total
        self._since = now
