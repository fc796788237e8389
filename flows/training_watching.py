"""Who is told the events of a training run in this process; as `flows.watching`, which is about shards."""

from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Any

TRAINING_WATCHER: ContextVar[Callable[[Mapping[str, Any]], None]] = ContextVar(
    "caprl_training_watcher", default=lambda _: None
)
"""Set by the command; a worker's flow run has nobody watching."""
