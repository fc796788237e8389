"""GPU-hours and money of a run, spent and to come, from the commits it has seen."""

from typing import NamedTuple

from caprl_core.recipe.models import CostExecution
from caprl_core.shards.events import ShardResult
from caprl_core.shards.tally import RunStart, Snapshot


class Spent(NamedTuple):
    """GPU-hours and money (in `currency`). What is to come is None until something is committed."""

    gpu_hours: float
    gpu_hours_left: float | None
    cost: float
    cost_left: float | None
    currency: str


class Spending:
    """Adds up the engine seconds of commits. Shards in flight count once they are committed, as in `caprl status`."""

    def __init__(self, cost: CostExecution, start: RunStart) -> None:
        self._cost = cost
        self._hours = start.gpu_hours
        self._samples = start.done if start.gpu_hours else 0
        self._paid_before = start.counted

    def add(self, result: ShardResult) -> None:
        """A unit is committed; one that another attempt committed was paid for elsewhere, but its samples are done.

        One that was only published now is among what the run began with.
        """
        if result.unit in self._paid_before:
            return
        self._hours += result.record.usage.engine_s * self._cost.gpus / 3600
        self._samples += result.record.samples

    def read(self, now: Snapshot) -> Spent:
        """As of now: what is left will cost what the samples of all commits have cost on average."""
        left = self._hours * max(0, now.total - now.done) / self._samples if self._samples else None
        price = self._cost.gpu_hour_price
        return Spent(
            self._hours, left, self._hours * price, None if left is None else left * price, self._cost.currency
        )
