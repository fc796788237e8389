"""Who is told how a run goes: displays implement this, flows call it."""

from typing import Protocol

from caprl_core.shards.events import ShardEvent, ShardResult
from caprl_core.shards.tally import RunStart
from caprl_core.storage.layout import Unit


class Watcher(Protocol):
    """Called from several threads; every method is quick and never raises."""

    def planning(self, records: int) -> None:
        """So many source records have been read for the plan."""
        ...

    def started(self, start: RunStart) -> None:
        """The run begins."""
        ...

    def event(self, event: ShardEvent) -> None:
        """A step of a shard is finished."""
        ...

    def finished(self, result: ShardResult) -> None:
        """A unit is committed and published."""
        ...

    def failed(self, unit: Unit, error: Exception) -> None:
        """A unit's attempts are used up, or it is quarantined."""
        ...

    def stopping(self) -> None:
        """The run was asked to end early; logs are flushed and the engine is closed now."""
        ...


class NoWatcher:
    """Nobody watches: a flow run by a worker shows itself in Prefect's pages."""

    def planning(self, records: int) -> None:
        """Nothing."""

    def started(self, start: RunStart) -> None:
        """Nothing."""

    def event(self, event: ShardEvent) -> None:
        """Nothing."""

    def finished(self, result: ShardResult) -> None:
        """Nothing."""

    def failed(self, unit: Unit, error: Exception) -> None:
        """Nothing."""

    def stopping(self) -> None:
        """Nothing."""
