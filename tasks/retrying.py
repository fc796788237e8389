"""When a shard is worth another try, and how long to wait for it."""

import random
from typing import Any

from prefect.client.schemas.objects import State, TaskRun

from caprl_core.errors import (
    BadInputError,
    IdentityMismatchError,
    IncompleteError,
    LaneGaveUpError,
    ShardQuarantinedError,
)

RETRIES = 3
BACKOFF_S = 5.0
"""Doubled at each retry, so 5, 10 and 20 s: the store has been waited for already (`storage.outage_s`), the engine's
circuit for a minute, so these only have to outlive the restart of what was found dead."""
JITTER = 0.5
"""Each wait is up to 50 % longer or shorter, so that lanes struck by one outage do not come back in step."""


def backoff(retries: int) -> list[float]:
    """Seconds before each retry, for Prefect's `retry_delay_seconds`, which draws them once a process.

    Prefect's own `retry_jitter_factor` is stored with the task run, but (3.7.7) not applied by the engine that runs it.
    """
    return [BACKOFF_S * 2**retry * random.uniform(1 - JITTER, 1 + JITTER) for retry in range(retries)]


class ShardStoppedError(IncompleteError):
    """The run is ending; the shard's log holds what was done, and the next run resumes it."""


FINAL = (BadInputError, IdentityMismatchError, LaneGaveUpError, ShardQuarantinedError, ShardStoppedError)
"""Errors that the same call would meet again."""


def worth_retrying(task: Any, task_run: TaskRun, state: State[Any]) -> bool:
    """Prefect's `retry_condition_fn`: false for errors that a retry cannot cure."""
    return not isinstance(state.data, FINAL)
