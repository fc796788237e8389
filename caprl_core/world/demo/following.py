"""The progress of a flow over shards, told to the terminal."""

from caprl_core.world.demo.commands import Command, DemoError, Event
from caprl_core.world.demo.terminal import Busy


class ShardCount:
    """Samples done, from a run's events: the ticks of the run's clock and the shards it publishes."""

    def __init__(self) -> None:
        self._name = ""
        self._done = self._published = self._total = 0

    def event(self, event: Event) -> None:
        """Take an event in."""
        match event["event"]:
            case "started":
                self._name, self._total = event["name"], event["total"]
                self._done = self._published = event["done"]
            case "progress" if self._name:
                self._done = max(self._done, event["done"])
            case "shard":
                self._published += event["rows"] + event["rejected"]
                self._done = max(self._done, self._published)

    def show(self, busy: Busy) -> None:
        """On the line of progress."""
        if self._name:
            busy.tell(f"{self._name}: {self._done} of {self._total} pictures", self._done, self._total)


def summary_of(run: Command, busy: Busy) -> Event:
    """Follow a run to its end. Raises `DemoError` when it fails."""
    count = ShardCount()
    summary = None
    for event in run.events():
        count.event(event)
        count.show(busy)
        summary = event if event["event"] == "summary" else summary
    run.ended()
    if summary is None:
        raise DemoError("the run has ended without a summary")
    return summary
