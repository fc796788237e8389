"""The figures of a lane at work: counts and seconds, kept as plain numbers and read by whoever is asked for metrics."""

import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field

from caprl_core.shards.events import ShardEvent, ShardResult
from caprl_core.storage.layout import Unit

COMMIT_BUCKETS_S = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
"""Upper bounds of the commit times' histogram: a folder takes tenths of a second, 1,000 large images on a busy store
a minute."""


@dataclass(slots=True)
class _OpenUnit:
    """A unit between `log read` and its end. `left` counts samples that have no result and no accepted reply yet."""

    left: int
    done: int
    rejected: int
    answered: deque[float] = field(default_factory=deque)
    asking: bool = True
    logged_at: float = 0.0


@dataclass(slots=True)
class Figures:
    """A moment of a lane. Names say the units; those without one are counts since the lane began."""

    requests_in_flight: int = 0
    request_slots: int = 0
    answered_requests: int = 0
    failed_requests: int = 0
    cancelled_requests: int = 0
    request_seconds: float = 0.0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    busy_seconds: float = 0.0
    starved_seconds: float = 0.0
    free_slot_seconds: float = 0.0
    waiting_samples: int = 0
    slot_wait_seconds: float = 0.0
    lag_samples: int = 0
    lag_seconds: float = 0.0
    row_samples: int = 0
    rejected_samples: int = 0
    resumed_samples: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    shards: Counter[str] = field(default_factory=Counter)
    engine_starts: int = 0
    engine_deaths: int = 0
    engine_load_seconds: float = 0.0
    commit_counts: list[int] = field(default_factory=lambda: [0] * (len(COMMIT_BUCKETS_S) + 1))
    commit_seconds: float = 0.0


class LaneFigures:
    """Told by a lane's engine, stage and events, from any thread.

    The engine is *starved* while it has a free slot, no sample waits for one, and some shard still has samples that are
    not with the engine: reading or decoding does not keep up. While the last samples of the last shard are answered the
    free slots have nobody to take them, and nothing is counted.
    """

    def __init__(
        self, shards: int, shard_samples: Callable[[int], int], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._now = Figures()
        self._shard_samples = shard_samples
        self._clock = clock
        self._lock = threading.Lock()
        self._units: dict[Unit, _OpenUnit] = {}
        self._ready: dict[str, tuple[float, Unit | None]] = {}
        self._left = 0
        self._since = clock()
        self._now.shards.update(waiting=shards, working=0, committed=0, quarantined=0, failed=0)

    def engine_started(self, slots: int, seconds: float) -> None:
        """An engine is loaded, with so many slots, after so many seconds."""
        with self._lock:
            self._settle()
            self._now.request_slots = slots
            self._now.engine_starts += 1
            self._now.engine_load_seconds = seconds
            self._ready.clear()

    def engine_died(self) -> None:
        """The engine is gone, or did not start."""
        with self._lock:
            self._settle()
            self._now.engine_deaths += 1

    def engine_stopped(self) -> None:
        """No engine any more, so none can be starved."""
        with self._lock:
            self._settle()
            self._now.request_slots = 0

    def ready(self, request: str, unit: Unit | None) -> None:
        """A sample's first request is made and waits for a slot."""
        with self._lock:
            now = self._settle()
            self._ready[request] = (now, unit)

    def asked(self, request: str) -> float:
        """A request has its slot; returns the time for `answered`."""
        with self._lock:
            now = self._settle()
            self._now.requests_in_flight += 1
            began = self._ready.pop(request, None)
            if began is not None:
                self._now.slot_wait_seconds += now - began[0]
            return now

    def answered(self, began: float, prompt_tokens: int, completion_tokens: int) -> None:
        """A request has its reply."""
        with self._lock:
            self._leave(began)
            self._now.answered_requests += 1
            self._now.prompt_tokens += prompt_tokens
            self._now.completion_tokens += completion_tokens

    def unanswered(self, began: float, *, cancelled: bool) -> None:
        """A request has ended without a reply."""
        with self._lock:
            self._leave(began)
            if cancelled:
                self._now.cancelled_requests += 1
            else:
                self._now.failed_requests += 1

    def accepted(self, unit: Unit) -> None:
        """A sample's replies make a row, which goes to the log."""
        with self._lock:
            now = self._settle()
            open_unit = self._units.get(unit)
            if open_unit is not None:
                open_unit.answered.append(now)
                self._now.lag_samples += 1
                self._take(open_unit)

    def event(self, event: ShardEvent) -> None:
        """A step of a shard is finished."""
        with self._lock:
            now = self._settle()
            if event.step == "log read":
                self._close(event.unit)
                left = max(0, self._shard_samples(event.unit.shard) - event.done)
                self._units[event.unit] = _OpenUnit(left, event.done, event.rejected)
                self._left += left
                return
            unit = self._units.get(event.unit)
            if unit is None:
                return
            if event.step == "sample":
                self._logged(unit, event)
            elif event.step == "all logged":
                self._forget(unit)
                unit.asking, unit.logged_at = False, now
            elif event.step == "committed":
                seconds = now - unit.logged_at
                self._now.commit_seconds += seconds
                place = sum(seconds > bound for bound in COMMIT_BUCKETS_S)
                self._now.commit_counts[place] += 1

    def joined(self) -> None:
        """A unit has come to those the run began with."""
        with self._lock:
            self._now.shards["waiting"] += 1

    def begun(self) -> None:
        """An attempt at a unit begins."""
        with self._lock:
            self._now.shards["waiting"] -= 1
            self._now.shards["working"] += 1

    def left(self, unit: Unit, result: ShardResult | None) -> None:
        """An attempt at a unit has ended, well or not; the unit waits until it is begun again or settled."""
        with self._lock:
            self._settle()
            self._close(unit)
            self._now.shards["working"] -= 1
            self._now.shards["waiting"] += 1
            if result is not None and result.won:
                self._now.resumed_samples += result.resumed
                self._now.reasons.update(result.record.reasons)

    def settled(self, state: str) -> None:
        """A unit is `committed`, `quarantined` or `failed` for this run."""
        with self._lock:
            self._now.shards["waiting"] -= 1
            self._now.shards[state] += 1

    def read(self) -> Figures:
        """A copy, as of now."""
        with self._lock:
            now = self._settle()
            values = {name: getattr(self._now, name) for name in Figures.__slots__}
            values["reasons"], values["shards"] = Counter(self._now.reasons), Counter(self._now.shards)
            values["commit_counts"] = list(self._now.commit_counts)
            values["waiting_samples"] = len(self._ready)
            oldest = min((unit.answered[0] for unit in self._units.values() if unit.answered), default=now)
            values["lag_seconds"] = now - oldest
            return Figures(**values)

    def _settle(self) -> float:
        """Count the time since the last change as what it was."""
        now = self._clock()
        passed, self._since = now - self._since, now
        flying, slots = self._now.requests_in_flight, self._now.request_slots
        if flying:
            self._now.busy_seconds += passed
        if flying < slots and not self._ready and self._left > flying:
            self._now.starved_seconds += passed
            self._now.free_slot_seconds += passed * (slots - flying)
        return now

    def _leave(self, began: float) -> None:
        now = self._settle()
        self._now.requests_in_flight -= 1
        self._now.request_seconds += now - began

    def _logged(self, unit: _OpenUnit, event: ShardEvent) -> None:
        rejected = event.rejected - unit.rejected
        rows = event.done - unit.done - rejected
        unit.done, unit.rejected = event.done, event.rejected
        self._now.row_samples += rows
        self._now.rejected_samples += rejected
        for _ in range(min(rows, len(unit.answered))):
            unit.answered.popleft()
            self._now.lag_samples -= 1
        for _ in range(rejected):
            self._take(unit)

    def _take(self, unit: _OpenUnit) -> None:
        """One sample of the unit needs the engine no more."""
        if unit.asking and unit.left:
            unit.left -= 1
            self._left -= 1

    def _forget(self, unit: _OpenUnit) -> None:
        self._left -= unit.left
        unit.left = 0
        self._now.lag_samples -= len(unit.answered)
        unit.answered.clear()

    def _close(self, unit: Unit) -> None:
        open_unit = self._units.pop(unit, None)
        # Cancelled while they waited for a slot, these will never ask.
        self._ready = {request: waits for request, waits in self._ready.items() if waits[1] != unit}
        if open_unit is not None:
            self._forget(open_unit)
