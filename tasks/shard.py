"""One task a shard: an attempt at its commit, retried where that can help."""

import threading
from collections.abc import Callable
from typing import Any

from prefect import Task, task
from prefect.cache_policies import NO_CACHE

from caprl_core.errors import CaprlError
from caprl_core.shards.events import ShardResult
from caprl_core.storage.layout import Unit
from tasks.retrying import RETRIES, ShardStoppedError, backoff, worth_retrying


class ShardWork:
    """What a run's shard tasks share: how to work a unit, and whether the run is ending.

    A plain class on purpose: Prefect searches collections, dataclasses and pydantic models among a task's parameters
    for futures, but hands any other object on untouched. With no caching and no stored results it never serialises one.
    """

    def __init__(self, run: Callable[[Unit], ShardResult]) -> None:
        self._run = run
        self._stopping = threading.Event()

    def stop(self) -> None:
        """Let no further attempt begin; attempts that fail from now on are not retried."""
        self._stopping.set()

    def run(self, unit: Unit) -> ShardResult:
        """Work a unit to its commit. Raises what `Lane.run` raises, or `ShardStoppedError` once the run is ending."""
        if self._stopping.is_set():
            raise ShardStoppedError(f"shard {unit.shard}: the run is ending; the same command again resumes")
        try:
            return self._run(unit)
        except CaprlError:
            raise
        except Exception as error:
            # Cancelled by the closing lane: no failure of the shard.
            if self._stopping.is_set():
                raise ShardStoppedError(f"shard {unit.shard}: stopped; the same command again resumes") from error
            raise


def _run_name(parameters: dict[str, Any]) -> str:
    """`shard-000007`, of a revision `shard-000007.r1`."""
    revision = parameters["revision"]
    return f"shard-{parameters['shard']:06d}" + (f".r{revision}" if revision else "")


@task(
    name="shard",
    task_run_name=_run_name,  # type: ignore[arg-type]
    retries=RETRIES,
    retry_delay_seconds=backoff,
    retry_condition_fn=worth_retrying,
    persist_result=False,
    cache_policy=NO_CACHE,
)
def work_shard(shard: int, revision: int, work: ShardWork) -> ShardResult:
    """Finish a unit, or find it finished; `shard_task` gives it the stage's name."""
    return work.run(Unit(shard, revision))


def shard_task(stage: str) -> Task[[int, int, ShardWork], ShardResult]:
    """The task that finishes a unit of a stage, or finds it finished: safe to run any number of times, anywhere.

    Its name is `<stage>-shard` (`caption-shard`, `answer-shard`, …). It has no tag: for each task with one Prefect asks
    the server for a place, limit or not, and when the server is away for a minute the task fails before it has begun.
    """
    return work_shard.with_options(name=f"{stage}-shard")
