"""Who watches a flow run in this process. A flow's parameters must be storable, so a display cannot be one of them."""

from contextvars import ContextVar

from caprl_core.shards.watcher import NoWatcher, Watcher

WATCHER: ContextVar[Watcher] = ContextVar("caprl_watcher", default=NoWatcher())  # noqa: B039 - it has no state
"""Set by `flows.embedded` around the call of a flow; a worker's flow run has nobody watching."""
