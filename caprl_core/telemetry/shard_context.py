"""Whose work this is: the shard that a thread or a task works on, wherever the work goes from there.

A context variable follows the work from the thread that calls `Lane.run` into the lane's event loop, the tasks made
there and the threads they hand work to, so nothing between has to pass it on.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from caprl_core.shards.events import ShardEvent
from caprl_core.storage.layout import Unit


@dataclass(slots=True)
class ShardAtWork:
    """A unit, and how far it is. `attempt` counts the tries of this run from 1; `attempt_id` names the attempt in the
    bucket once it has told; `step` is the last one finished (see `caprl_core.shards.events`)."""

    unit: Unit
    attempt: int
    attempt_id: str = ""
    step: str = ""

    def advance(self, event: ShardEvent) -> None:
        """A step is finished."""
        self.step = event.step
        self.attempt_id = event.attempt or self.attempt_id


SHARD: ContextVar[ShardAtWork | None] = ContextVar("caprl_shard", default=None)
"""The shard at work here, or None outside any."""


@contextmanager
def working_on(unit: Unit, attempt: int) -> Iterator[ShardAtWork]:
    """What is called inside works on this unit."""
    shard = ShardAtWork(unit, attempt)
    token = SHARD.set(shard)
    try:
        yield shard
    finally:
        SHARD.reset(token)
