"""What is known of lanes from outside, and what it means: who is not waited for, and whether new ones are worth it."""

import time
from collections.abc import Collection, Mapping, Sequence

from caprl_core.storage.layout import Unit

SILENT_S = 900.0
"""Seconds a running lane may write nothing: it may wait ten minutes for its GPU, and loading a large model from a cold
disk takes minutes too."""
SILENT_BEYOND_S = 300.0
"""The same beyond the time the store may be away (`storage.outage_s`), if that is more."""
SLOW_FACTOR = 3.0
LOADING_S = 300.0
"""A lane at work that finishes no shard in three times as long as one should take, and five minutes, is not waited
for."""
TAKEN_S = 3600.0
"""Seconds a lane may be with a worker and not begin: a cluster may have to find a node and to fetch an image first."""
REST_S, MAX_REST_S = 5.0, 300.0
"""Seconds no lane is started after the second in a row that ended without a sample, while others work: doubled each
time, at most the latter. Of many hosts a broken one is always the one with a free place."""


class LaneSigns:
    """Times are seconds of `time.monotonic`. `patience` lanes in a row may end without a sample of any lane."""

    def __init__(self, outage_s: float, patience: int) -> None:
        self._outage_s = outage_s
        self._patience = patience
        self._finished_one: dict[int, float] = {}
        self._heard: dict[int, float] = {}
        self._taken: dict[int, float] = {}
        self._fruitful: set[int] = set()
        self._rest_s, self._rest_until = 0.0, float("-inf")
        self.fruitless = 0
        """Lanes in a row that ended: all of a pool may die of one cause, but so many without a sample are a sign."""

    @property
    def hopeless(self) -> bool:
        """Whether whatever ends lane after lane is no shard."""
        return self.fruitless >= self._patience

    def news(
        self, held: Mapping[int, Sequence[Unit]], heard: Collection[Unit], answered: Collection[Unit], ended: set[Unit]
    ) -> None:
        """Something was written for these units, samples of those were answered, and those have ended."""
        now = time.monotonic()
        for number in self._taken:
            # The server is away, and this is not how the lane stands now.
            if set(held.get(number, ())) & {*heard, *ended}:
                self._taken[number] = now
        for number in self._heard:
            units = set(held.get(number, ()))
            if not units.isdisjoint(heard) or units & ended:
                self._heard[number] = now
            if number not in self._fruitful and (not units.isdisjoint(answered) or units & ended):
                self._fruitful.add(number)
                self._rest_s, self._rest_until = 0.0, float("-inf")
            if units & ended:
                self._finished_one[number] = now
        if answered or ended:
            self.fruitless = 0

    def bucket_is_back(self) -> None:
        """A lane that could not write has been neither silent nor slow."""
        self._heard = dict.fromkeys(self._heard, time.monotonic())
        self._finished_one = dict.fromkeys(self._finished_one, time.monotonic())

    def waiting(self, number: int) -> None:
        """No worker has this lane, or none any more."""
        self._taken.pop(number, None)

    def taken_too_long(self, number: int) -> bool:
        """Whether a lane that a worker has taken does not begin. It says nothing about the lanes that do."""
        now = time.monotonic()
        return now - self._taken.setdefault(number, now) > TAKEN_S

    def verdict(self, number: int, held: Sequence[Unit], begun: Collection[Unit], expected_s: float | None) -> str:
        """Why a running lane is not waited for any more; empty if it is. `expected_s` should do for a shard."""
        now = time.monotonic()
        if not held:
            # One that has nothing to do is neither silent nor slow.
            self._heard[number] = self._finished_one[number] = now
            return ""
        if not any(unit in begun for unit in held):
            # It loads its engine, or waits for its GPU.
            self._finished_one[number] = now
        since = self._finished_one.setdefault(number, now)
        heard = self._heard.setdefault(number, now)
        if expected_s is not None and now - since > SLOW_FACTOR * expected_s + LOADING_S:
            return "too slow"
        return "silent" if now - heard > max(SILENT_S, self._outage_s + SILENT_BEYOND_S) else ""

    def lost(self, number: int, *, counts: bool) -> None:
        """A lane ended with work left. It `counts` if that may be a sign that no lane can work."""
        self.fruitless += counts
        if counts and number not in self._fruitful:
            # Once is an accident.
            self._rest_until = time.monotonic() + self._rest_s
            self._rest_s = min(MAX_REST_S, 2 * self._rest_s or REST_S)

    def over(self, number: int) -> None:
        """Nothing more comes of this lane."""
        self._heard.pop(number, None)
        self._fruitful.discard(number)

    @property
    def resting(self) -> bool:
        """Whether no lane is to be started now: others work, and the last ones that were started could not."""
        return bool(self._fruitful) and time.monotonic() < self._rest_until
