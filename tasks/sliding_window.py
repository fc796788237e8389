"""Submits tasks a few at a time, so that a run of thousands of shards holds no more than it works on."""

import queue
from collections.abc import Callable, Iterator
from typing import NamedTuple

from prefect.futures import PrefectFuture

from caprl_core.shards.events import ShardResult
from caprl_core.shards.lane_work import LaneWork
from caprl_core.storage.layout import Unit

TICK_S = 1.0
"""How often the waiting thread looks up when nothing ends: signals and reports need no more."""


class Outcome(NamedTuple):
    """How a unit ended: a result, or the error of its last attempt."""

    unit: Unit
    result: ShardResult | None
    error: Exception | None


class SlidingWindow:
    """Keeps `in_flight` tasks submitted, in the order of `work`, and yields outcomes as they come."""

    def __init__(self, work: LaneWork, submit: Callable[[Unit], PrefectFuture[ShardResult]], in_flight: int) -> None:
        self._work = work
        self._submit = submit
        self._in_flight = in_flight
        self._open: dict[Unit, PrefectFuture[ShardResult]] = {}
        self._ended: queue.SimpleQueue[Unit] = queue.SimpleQueue()

    def close(self) -> None:
        """Submit nothing more; what is submitted is still waited for."""
        self._work.close()

    def outcomes(self, tick: Callable[[], None]) -> Iterator[Outcome]:
        """Until every unit ended and none can come; `tick` is called about once a second in between."""
        self._fill()
        while self._open or self._work.open:
            try:
                unit = self._ended.get(timeout=TICK_S)
            except queue.Empty:
                tick()
                self._fill()
                continue
            yield _outcome(unit, self._open.pop(unit))
            self._fill()
            tick()

    def _fill(self) -> None:
        while len(self._open) < self._in_flight:
            unit = self._work.take(busy=bool(self._open))
            if unit is None:
                return
            future = self._submit(unit)
            self._open[unit] = future
            future.add_done_callback(lambda _, unit=unit: self._ended.put(unit))  # type: ignore[misc]


def _outcome(unit: Unit, future: PrefectFuture[ShardResult]) -> Outcome:
    try:
        return Outcome(unit, future.result(), None)
    except Exception as error:
        return Outcome(unit, None, error)
