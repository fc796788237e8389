"""What a lane shows of itself: figures, metrics and log lines, switched on by its recipe and costing nothing if off."""

import contextlib
import logging
import os
import socket
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Self

from caprl_core.engines.protocol import Engine
from caprl_core.errors import ShardQuarantinedError
from caprl_core.recipe.models import StageRecipe
from caprl_core.shards.dataset import Dataset
from caprl_core.shards.events import ShardEvent, ShardResult
from caprl_core.shards.stage import Stage
from caprl_core.storage.layout import Unit
from caprl_core.telemetry.counted import CountedEngine, CountedStage
from caprl_core.telemetry.exposure import MetricsServer
from caprl_core.telemetry.figures import LaneFigures
from caprl_core.telemetry.json_logs import ShardFilter, structured_logs
from caprl_core.telemetry.metrics import LaneCollector
from caprl_core.telemetry.shard_context import SHARD, working_on

logger = logging.getLogger(__name__)

_FREQUENT = ("sample", "log flushed")
"""Steps of which a shard has hundreds: their lines are for DEBUG."""


def run_logs(recipe: StageRecipe, dataset: str, flow_run: str | None) -> AbstractContextManager[ShardFilter]:
    """The log lines of a run, or a lane, in this process; see `structured_logs`."""
    facts = {"dataset": dataset, "lane": f"{socket.gethostname()}/{os.getpid()}", "flow_run": flow_run}
    engine = getattr(recipe.execution, "engine", None)
    return structured_logs(recipe.execution.logs, facts, () if engine is None else (engine.api_key_env,))


class LaneTelemetry:
    """Enter it around the lane. `engine` and `stage` are what the lane gets, `work` goes around each attempt, `observe`
    takes the lane's events, `ended` what became of a unit. `shards` counts the units of the run; `tell` is told what
    cannot be shown."""

    def __init__(
        self,
        recipe: StageRecipe,
        dataset: Dataset,
        *,
        shards: int,
        flow_run: str | None = None,
        tell: Callable[..., None] = logger.warning,
    ) -> None:
        name = dataset.record.name
        self._logs = run_logs(recipe, name, flow_run)
        self._tells = recipe.execution.logs.format != "human"
        self._figures: LaneFigures | None = None
        self._metrics: MetricsServer | None = None
        if recipe.execution.metrics.port is not None:
            figures = self._figures = LaneFigures(shards, dataset.shard_samples)
            # As a label a pid would be a new one for each lane: it is the lane's place among those of its host instead.
            self._metrics = MetricsServer(
                recipe.execution.metrics, lambda place: LaneCollector(figures.read, name, str(place)), tell
            )
        self._shards: ShardFilter | None = None
        self._ending = contextlib.ExitStack()

    def engine(self, engine: Engine) -> Engine:
        """The engine, counted if there are metrics."""
        return engine if self._figures is None else CountedEngine(engine, self._figures)

    def stage(self, stage: Stage) -> Stage:
        """The stage, counted if there are metrics."""
        return stage if self._figures is None else CountedStage(stage, self._figures)

    def joined(self) -> None:
        """A unit has come to those the run began with."""
        if self._figures is not None:
            self._figures.joined()

    def work(self, unit: Unit, attempt: int, run: Callable[[], ShardResult]) -> ShardResult:
        """Run an attempt, the `attempt`-th of this run, as the work of its unit. Raises what it raises."""
        result: ShardResult | None = None
        if self._figures is not None:
            self._figures.begun()
        if self._shards is not None:
            self._shards.began(unit, attempt)
        with working_on(unit, attempt):
            try:
                result = run()
                return result
            except Exception as error:
                if self._tells:
                    logger.warning("attempt %d ended: %s: %s", attempt, type(error).__name__, error)
                raise
            finally:
                if self._figures is not None:
                    self._figures.left(unit, result)

    def observe(self, event: ShardEvent) -> None:
        """A step of a shard is finished."""
        if self._figures is not None:
            self._figures.event(event)
        if self._tells:
            shard = SHARD.get()
            if shard is not None:
                shard.advance(event)
            level = logging.DEBUG if event.step in _FREQUENT else logging.INFO
            logger.log(level, "%s: %d samples done, %d rejected", event.step, event.done, event.rejected)

    def ended(self, error: Exception | None) -> None:
        """A unit is committed, or given up for this run because of `error`."""
        if self._figures is not None:
            quarantined = isinstance(error, ShardQuarantinedError)
            self._figures.settled("committed" if error is None else "quarantined" if quarantined else "failed")

    def __enter__(self) -> Self:
        """Write lines and listen. Raises `BadInputError` for a log file that cannot be opened."""
        with contextlib.ExitStack() as ending:
            self._shards = ending.enter_context(self._logs)
            if self._metrics is not None:
                ending.enter_context(self._metrics)
            self._ending = ending.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop both."""
        self._ending.close()
