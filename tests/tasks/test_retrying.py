"""What is tried again, and when."""

import pytest
from prefect.client.schemas.objects import TaskRun
from prefect.states import Failed

from caprl_core.errors import (
    BadInputError,
    EngineDeadError,
    IdentityMismatchError,
    ShardQuarantinedError,
    StoreError,
)
from tasks.plan import plan_dataset
from tasks.retrying import BACKOFF_S, JITTER, RETRIES, ShardStoppedError, backoff, worth_retrying
from tasks.shard import work_shard


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (StoreError("503"), True),
        (EngineDeadError("gone"), True),
        (OSError(28, "disk full"), True),
        (BadInputError("a root is unreachable"), False),
        (IdentityMismatchError("prompt.text"), False),
        (ShardQuarantinedError("truncated 40 %"), False),
        (ShardStoppedError("the run is ending"), False),
    ],
    ids=lambda value: type(value).__name__,
)
def test_only_what_may_succeed_another_time_is_retried(error: Exception, again: bool) -> None:
    run = TaskRun(task_key="shard", dynamic_key="0")
    assert worth_retrying(work_shard, run, Failed(data=error)) is again


def test_waits_double_and_differ_from_process_to_process() -> None:
    drawn = [backoff(RETRIES) for _ in range(50)]
    for number in range(RETRIES):
        waits = {waits[number] for waits in drawn}
        assert len(waits) > 1
        base = BACKOFF_S * 2**number
        assert base * (1 - JITTER) <= min(waits) <= max(waits) <= base * (1 + JITTER)


@pytest.mark.parametrize("task", [work_shard, plan_dataset], ids=lambda task: task.name)
def test_tasks_retry_and_store_no_result(task: object) -> None:
    assert (task.retries, len(task.retry_delay_seconds)) == (RETRIES, RETRIES)  # type: ignore[attr-defined]
    assert task.persist_result is False  # type: ignore[attr-defined]
    assert task.retry_condition_fn is worth_retrying  # type: ignore[attr-defined]
