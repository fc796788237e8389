"""Counts a run while it goes: what is done, what is in flight, how fast, how long still."""

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Collection
from typing import NamedTuple

from caprl_core.shards.events import ShardEvent, ShardResult
from caprl_core.storage.layout import Unit

RATE_WINDOW_S = 60.0
"""The rate shown is that of the last minute: it follows a change, and a shard boundary does not make it jump."""


class RunStart(NamedTuple):
    """What a run begins with. Counts are samples unless they say shards.

    `samples` is all there is, `total` what will be done when this run is through, `done` what was before; `counted` are
    units whose samples are in `done` although the run works them (to publish, or to revise them); `gpu_hours` is what
    all commits before this run have used.
    """

    name: str
    uri: str
    samples: int
    total: int
    done: int
    rejected: int
    shards: int
    counted: Collection[Unit] = ()
    gpu_hours: float = 0.0


class Snapshot(NamedTuple):
    """A moment of a run. `done` includes what an earlier run left; `rate` is samples/s; times are seconds.

    `asked` samples got their result in this run, `resumed` ones came from the logs of earlier attempts.
    """

    done: int
    total: int
    rejected: int
    asked: int
    resumed: int
    shards_done: int
    shards_failed: int
    shards: int
    in_flight: tuple[tuple[Unit, int], ...]
    rate: float
    eta_s: float | None
    elapsed_s: float


class Tally:
    """Fed with a run's events from any thread."""

    def __init__(self, start: RunStart, clock: Callable[[], float] = time.monotonic) -> None:
        self._start = start
        self._clock = clock
        self._began = clock()
        self._lock = threading.Lock()
        self._open: dict[Unit, tuple[int, int]] = {}
        self._done = start.done
        self._rejected = start.rejected
        self._asked = 0
        self._resumed = 0
        self._total, self._shards = start.total, start.shards
        self._shards_done = 0
        self._shards_failed = 0
        self._working_since: float | None = None
        self._recent: deque[tuple[float, int]] = deque()
        self.reasons: Counter[str] = Counter()

    def event(self, event: ShardEvent) -> None:
        """A step of a shard."""
        with self._lock:
            self._open[event.unit] = (event.done, event.rejected)
            now = self._clock()
            if self._working_since is None:
                self._working_since = now  # loading the engine, which takes minutes, is no part of the rate
            if event.step == "sample":
                self._asked += 1
                # One entry a tenth of a second keeps the window small at any rate.
                if self._recent and now - self._recent[-1][0] < 0.1:
                    self._recent[-1] = (self._recent[-1][0], self._recent[-1][1] + 1)
                else:
                    self._recent.append((now, 1))

    def joined(self, samples: int) -> None:
        """A unit of so many samples has come to what the run began with."""
        with self._lock:
            self._total += samples
            self._shards += 1

    def finished(self, result: ShardResult) -> None:
        """A unit is published."""
        with self._lock:
            self._open.pop(result.unit, None)
            self._shards_done += 1
            self._resumed += result.resumed
            self.reasons.update(result.record.reasons)
            if result.unit not in self._start.counted:
                self._done += result.record.samples
                self._rejected += result.record.rejected

    def failed(self, unit: Unit, count: int = 1) -> None:
        """A unit is given up for this run; what it logged stays for the next. `count` -1 takes that back."""
        with self._lock:
            self._open.pop(unit, None)
            self._shards_failed += count

    def snapshot(self) -> Snapshot:
        """Now."""
        with self._lock:
            now = self._clock()
            while self._recent and now - self._recent[0][0] > RATE_WINDOW_S:
                self._recent.popleft()
            span = 0.0 if self._working_since is None else min(RATE_WINDOW_S, now - self._working_since)
            rate = sum(count for _, count in self._recent) / span if span > 0 else 0.0
            working = {unit: counts for unit, counts in self._open.items() if unit not in self._start.counted}
            done = self._done + sum(count for count, _ in working.values())
            return Snapshot(
                done=done,
                total=self._total,
                rejected=self._rejected + sum(count for _, count in working.values()),
                asked=self._asked,
                resumed=self._resumed,
                shards_done=self._shards_done,
                shards_failed=self._shards_failed,
                shards=self._shards,
                in_flight=tuple((unit, count) for unit, (count, _) in sorted(self._open.items())),
                rate=rate,
                eta_s=max(0, self._total - done) / rate if rate > 0 else None,
                elapsed_s=now - self._began,
            )
