"""What every shard flow does once it knows its units: one lane, one task a shard, reports, a verdict."""

import logging
from collections.abc import Callable, Collection, Sequence
from typing import Any

from prefect import get_run_logger
from prefect.futures import PrefectFuture

from caprl_core.engines.protocol import Engine
from caprl_core.errors import IncompleteError, ShardQuarantinedError
from caprl_core.recipe.models import StageRecipe
from caprl_core.shards.dataset import Dataset
from caprl_core.shards.events import Observer, ShardEvent, ShardResult
from caprl_core.shards.lane import Lane
from caprl_core.shards.stage import Stage
from caprl_core.shards.tally import RunStart, Tally
from caprl_core.shards.watcher import Watcher
from caprl_core.storage.layout import Unit
from flows.watching import WATCHER
from tasks.reports import RunReport
from tasks.shard import ShardWork, shard_task
from tasks.sliding_window import Outcome, SlidingWindow

GIVE_UP_AFTER = 5
"""Failed shards in a row after which a run ends: each had its retries, so the cause is not in the shards."""
MAX_IN_FLIGHT = 16
"""Threads of a flow's task runner; the recipe's `shards_in_flight` cannot be more."""

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
) -> dict[str, Any]:
    """Work every unit; one that fails does not stop the others. Returns what was done.

    `expected_to_fail` are units in quarantine: they do not count as a sign that everything fails.
    Raises `ShardQuarantinedError` or `IncompleteError` at the end when a unit did not commit.
    """
    run = RunBooks(flow, recipe, start, WATCHER.get(), get_run_logger())
    run.watcher.started(start)
    task = shard_task(stage.name)
    with Lane(recipe, dataset, stage, lambda _: open_engine()) as lane:
        work = ShardWork(lambda unit: run_unit(lane, unit, run.observe))

        def submit(unit: Unit) -> PrefectFuture[ShardResult]:
            return task.submit(unit.shard, unit.revision, work)

        window = SlidingWindow(units, submit, recipe.execution.runner.shards_in_flight)
        try:
            for outcome in window.outcomes(run.tick):
                run.note(outcome, outcome.unit in expected_to_fail)
                if run.failures_in_a_row >= GIVE_UP_AFTER:
                    window.close()
        except BaseException:
            # First, or the tasks would take the closing of the lane for a failure and wait for another try.
            work.stop()
            run.watcher.stopping()
            raise
    return run.conclude(len(units))


class RunBooks:
    """The books of one run: who is told what, and what came of it."""

    def __init__(
        self,
        flow: str,
        recipe: StageRecipe,
        start: RunStart,
        watcher: Watcher,
        logger: logging.Logger | logging.LoggerAdapter[Any],
    ) -> None:
        self.watcher = watcher
        self.failures_in_a_row = 0
        self._start = start
        self._tally = Tally(start)
        self._report = RunReport(flow, start, logger)
        self._done: list[ShardResult] = []
        self._failed: dict[Unit, Exception] = {}
        self._gpus = recipe.execution.cost.gpus

    def observe(self, event: ShardEvent) -> None:
        """A step of a shard is done."""
        self._tally.event(event)
        self.watcher.event(event)

    def tick(self) -> None:
        """Now and then: move the progress bar."""
        self._report.progress(self._tally.snapshot())

    def note(self, outcome: Outcome, expected_to_fail: bool) -> None:
        """A unit has ended."""
        self._report.add(outcome)
        if outcome.result is not None:
            self._done.append(outcome.result)
            self._tally.finished(outcome.result)
            self.watcher.finished(outcome.result)
            self.failures_in_a_row = 0
            return
        error = outcome.error or IncompleteError("ended without a result")
        self._failed[outcome.unit] = error
        self._tally.failed(outcome.unit)
        self.watcher.failed(outcome.unit, error)
        self.failures_in_a_row += not expected_to_fail

    def conclude(self, units: int) -> dict[str, Any]:
        """Publish the reports, then return the summary or raise."""
        now = self._tally.snapshot()
        quarantined = [u for u, error in self._failed.items() if isinstance(error, ShardQuarantinedError)]
        won = [result.record for result in self._done if result.won]
        engine_s = sum(record.usage.engine_s for record in won)
        summary: dict[str, Any] = {
            "name": self._start.name,
            "uri": self._start.uri,
            "samples": self._start.samples,
            "samples_done": now.done,
            "shards_committed": now.shards_done,
            "shards_quarantined": [unit.shard for unit in quarantined],
            "shards_failed": [unit.shard for unit in self._failed if unit not in quarantined],
            "shards_not_tried": units - len(self._done) - len(self._failed),
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
        self._report.progress(now, at_once=True)
        self._report.finish(summary)
        if self._failed:
            raise self._verdict(quarantined, units)
        return summary

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
