"""What every shard flow does once it knows its units: one lane, one task a shard, reports, a verdict."""

import logging
import os
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from prefect import get_run_logger
from prefect.context import FlowRunContext, TaskRunContext
from prefect.futures import PrefectFuture

from caprl_core.engines.gpu_hold import hold_gpus
from caprl_core.engines.protocol import Engine
from caprl_core.errors import IncompleteError, ShardQuarantinedError
from caprl_core.recipe.models import Execution, StageRecipe
from caprl_core.shards.dataset import Dataset, open_dataset
from caprl_core.shards.events import Observer, ShardEvent, ShardResult
from caprl_core.shards.lane import Lane
from caprl_core.shards.lane_work import LaneWork
from caprl_core.shards.stage import Stage
from caprl_core.shards.tally import RunStart, Tally
from caprl_core.shards.watcher import Watcher
from caprl_core.storage.layout import Unit
from caprl_core.storage.store import Store
from caprl_core.telemetry.dataset_page import write_dataset_page
from caprl_core.telemetry.lane_telemetry import LaneTelemetry
from caprl_core.telemetry.page_address import page_address
from flows.watching import WATCHER
from flows.worker_run import ending_with_the_worker
from tasks.alerts import RunAlerts
from tasks.reports import RunReport
from tasks.shard import ShardWork, shard_task
from tasks.sliding_window import Outcome, SlidingWindow

GIVE_UP_AFTER = 5
"""Failed shards in a row after which a run ends: each had its retries, so the cause is not in the shards."""
MAX_IN_FLIGHT = 16
"""Threads of a flow's task runner; the recipe's `shards_in_flight` cannot be more."""

GPU_WAIT_S = 600.0
"""Seconds a lane waits for its GPU. A worker that was killed leaves its lane at work, which may go on for hours, and
the next worker on that GPU takes another: it holds few shards, and others take them when there is nothing else."""

RunUnit = Callable[[Lane, Unit, Observer], ShardResult]


def work_unit(lane: Lane, unit: Unit, observe: Observer) -> ShardResult:
    """Work a unit to its commit, or find it committed."""
    return lane.run(unit, observe)


def part_start(dataset: Dataset, units: Sequence[Unit], samples: int, counted: Collection[Unit] = ()) -> RunStart:
    """What a run over a part of a dataset begins with: `samples` of these units, none of them done."""
    return RunStart(
        name=dataset.record.name,
        uri=dataset.store.uri,
        samples=samples,
        total=samples,
        done=0,
        rejected=0,
        shards=len(units),
        counted=counted,
    )


def run_shards(
    flow: str,
    recipe: StageRecipe,
    dataset: Dataset,
    *,
    stage: Stage,
    open_engine: Callable[[], Engine],
    units: Sequence[Unit],
    start: RunStart,
    run_unit: RunUnit = work_unit,
    expected_to_fail: Collection[Unit] = (),
    work_key: str | None = None,
) -> dict[str, Any]:
    """Work every unit; one that fails does not stop the others. Returns what was done.

    `expected_to_fail` are units in quarantine: they do not count as a sign that everything fails. With a `work_key`
    more units may be added from there; after a failure none is begun any more, so that others try what is left.
    Raises `ShardQuarantinedError` or `IncompleteError` at the end when a unit did not commit, and `GpuHeldError` before
    the beginning when another lane keeps the GPU.
    """
    run = RunBooks(flow, recipe, start, WATCHER.get(), get_run_logger(), slice_of_a_run=work_key is not None)
    run.watcher.started(start)
    task = shard_task(stage.name)
    source = LaneWork(dataset.store, work_key, units, shards=dataset.record.shards, tell=get_run_logger().warning)
    known = set(units)
    with (
        ending_with_the_worker(),
        _gpus(work_key is not None, recipe, get_run_logger().warning) if units or work_key else nullcontext(),
        LaneTelemetry(
            recipe, dataset, shards=len(units), flow_run=flow_run_id(), tell=get_run_logger().warning
        ) as telemetry,
        Lane(recipe, dataset, telemetry.stage(stage), lambda _: telemetry.engine(open_engine())) as lane,
    ):

        def observe(event: ShardEvent) -> None:
            telemetry.observe(event)
            run.observe(event)

        work = ShardWork(lambda unit: telemetry.work(unit, _attempt(), lambda: run_unit(lane, unit, observe)))

        def submit(unit: Unit) -> PrefectFuture[ShardResult]:
            if unit not in known:
                run.joined(dataset.shard_samples(unit.shard))
                telemetry.joined()
            return task.submit(unit.shard, unit.revision, work)

        window = SlidingWindow(source, submit, recipe.execution.runner.shards_in_flight)
        try:
            for outcome in window.outcomes(run.tick):
                run.note(outcome, outcome.unit in expected_to_fail)
                telemetry.ended(outcome.error)
                failed = outcome.error is not None and not isinstance(outcome.error, ShardQuarantinedError)
                if run.failures_in_a_row >= GIVE_UP_AFTER or (failed and work_key is not None):
                    window.close()
        except BaseException:
            # First, or the tasks would take the closing of the lane for a failure and wait for another try.
            work.stop()
            run.watcher.stopping()
            raise
    return run.conclude()


def _gpus(lane: bool, recipe: StageRecipe, tell: Callable[[str], None]) -> AbstractContextManager[object]:
    """Hold the GPUs this process was given. One that was given none in particular shares them as it likes, and one that
    is no lane and asks a server elsewhere needs none."""
    devices, execution = os.environ.get("CUDA_VISIBLE_DEVICES"), recipe.execution
    if devices is None or not isinstance(execution, Execution) or (execution.engine.kind == "openai" and not lane):
        return nullcontext()
    return hold_gpus(devices, wait_s=GPU_WAIT_S, tell=tell)


def flow_run_id() -> str | None:
    """The id of the flow run at work here."""
    context = FlowRunContext.get()
    return None if context is None or context.flow_run is None else str(context.flow_run.id)


def _attempt() -> int:
    """Which try of its unit the task run at work here is, from 1."""
    context = TaskRunContext.get()
    return 1 if context is None else context.task_run.run_count


class RunBooks:
    """The books of one run: who is told what, and what came of it.

    With `slice_of_a_run` another run keeps books of the same shards, and raises the alerts about them.
    """

    def __init__(
        self,
        flow: str,
        recipe: StageRecipe,
        start: RunStart,
        watcher: Watcher,
        logger: logging.Logger | logging.LoggerAdapter[Any],
        *,
        slice_of_a_run: bool = False,
    ) -> None:
        self.watcher = watcher
        self.failures_in_a_row = 0
        self._start = start
        self._tally = Tally(start)
        self._report = RunReport(flow, start, logger, recipe.execution.cost)
        self._alerts = RunAlerts(recipe.execution.alerts, start, logger, slice_of_a_run=slice_of_a_run)
        self._done: list[ShardResult] = []
        self._failed: dict[Unit, Exception] = {}
        self._gpus = recipe.execution.cost.gpus
        self._recipe = recipe
        self._slice = slice_of_a_run

    def observe(self, event: ShardEvent) -> None:
        """A step of a shard is done."""
        self._tally.event(event)
        self.watcher.event(event)

    def joined(self, samples: int) -> None:
        """A unit has come to what the run began with."""
        self._tally.joined(samples)

    def tick(self) -> None:
        """Now and then: move the progress bar, and see whether all is well."""
        now = self._tally.snapshot()
        self._report.progress(now)
        self._alerts.look(now)

    def lane_stalled(self, number: int, why: str) -> None:
        """A lane is not waited for any more."""
        self._alerts.lane_stalled(number, why)

    def note(self, outcome: Outcome, expected_to_fail: bool, lane: str = "") -> None:
        """A unit has ended; `lane` is who worked it, empty for this process."""
        self._report.add(outcome, lane)
        if outcome.result is not None:
            self._done.append(outcome.result)
            if self._failed.pop(outcome.unit, None) is not None:
                # A lane that had been given up has done it after all.
                self._tally.failed(outcome.unit, -1)
            self._tally.finished(outcome.result)
            self.watcher.finished(outcome.result)
            self.failures_in_a_row = 0
            return
        error = outcome.error or IncompleteError("ended without a result")
        if outcome.unit not in self._failed:
            self._tally.failed(outcome.unit)
        self._failed[outcome.unit] = error
        self.watcher.failed(outcome.unit, error)
        self._alerts.failed(outcome.unit, error)
        self.failures_in_a_row += not expected_to_fail

    def conclude(self) -> dict[str, Any]:
        """Publish the reports, then return the summary or raise."""
        now = self._tally.snapshot()
        quarantined = [u for u, error in self._failed.items() if isinstance(error, ShardQuarantinedError)]
        won = [result.record for result in self._done if result.won]
        engine_s = sum(record.usage.engine_s for record in won)
        summary: dict[str, Any] = {
            "name": self._start.name,
            "uri": self._start.uri,
            "samples": self._start.samples + now.total - self._start.total,
            "samples_done": now.done,
            "shards_committed": now.shards_done,
            "shards_quarantined": [unit.shard for unit in quarantined],
            "shards_failed": [unit.shard for unit in self._failed if unit not in quarantined],
            "shards_not_tried": now.shards - len(self._done) - len(self._failed),
            "rows": sum(result.record.rows for result in self._done),
            "rejected": sum(result.record.rejected for result in self._done),
            "reasons": dict(self._tally.reasons.most_common()),
            "samples_asked": now.asked,
            "samples_resumed": now.resumed,
            "prompt_tokens": sum(record.usage.prompt_tokens for record in won),
            "completion_tokens": sum(record.usage.completion_tokens for record in won),
            "engine_s": round(engine_s, 3),
            "gpu_hours": round(engine_s * self._gpus / 3600, 6),
            "seconds": round(now.elapsed_s, 3),
        }
        self._alerts.look(now)
        self._report.progress(now, at_once=True)
        self._report.finish(summary)
        if not self._slice:
            self._report.link(self._page)
        self._report.settle()
        if self._failed:
            raise self._verdict(quarantined, now.shards)
        return summary

    def _page(self) -> tuple[str, str]:
        """Write the dataset's report page, from the bucket alone."""
        execution = self._recipe.execution
        dataset = open_dataset(Store(self._start.uri, execution.storage), self._recipe)
        uri = write_dataset_page(dataset, execution.cost)
        return page_address(uri, execution.storage), uri

    def _verdict(self, quarantined: list[Unit], units: int) -> IncompleteError | ShardQuarantinedError:
        lines = [f"{len(self._failed)} of {units} shards did not commit."]
        if quarantined:
            lines.append(f"Quarantined, see `caprl status {self._start.uri}`: {_numbers(quarantined)}.")
        others = [unit for unit in self._failed if unit not in quarantined]
        if others:
            first = self._failed[others[0]]
            lines.append(f"Failed: {_numbers(others)}; the first with: {type(first).__name__}: {first}")
        if self.failures_in_a_row >= GIVE_UP_AFTER:
            lines.append(f"The last {self.failures_in_a_row} failed in a row, so the rest was not tried.")
        lines.append("What is committed or logged is kept; run the same command again to resume.")
        return (IncompleteError if others else ShardQuarantinedError)("\n".join(lines))


def _numbers(units: Sequence[Unit]) -> str:
    shown = ", ".join(str(unit.shard) for unit in sorted(units)[:20])
    return shown + (f" and {len(units) - 20} more" if len(units) > 20 else "")
