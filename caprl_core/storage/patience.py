"""A store that waits outages out: for lanes, whose finished samples would otherwise be lost and asked again."""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from caprl_core.errors import StoreAwayError
from caprl_core.recipe.models import StorageExecution
from caprl_core.storage.store import COPY_IN_ONE, MULTIPART_ABOVE, ObjectInfo, Store

T = TypeVar("T")

logger = logging.getLogger(__name__)

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 15.0
"""Pauses double up to this: so long after the end of an outage work goes on at the latest."""
RETRIES = 3
"""Of obstore's own, within a second: its pauses cannot be cut short, and a lane told to stop has seconds."""
TOLD_EVERY_S = 60.0


class PatientStore(Store):
    """While the store is away, or refuses credentials that have expired, each call waits up to `storage.outage_s`.

    However many calls wait, one after another or at once, an outage is waited for once: after that all fail at once
    until one succeeds. A call that fails otherwise (access denied, no such bucket) fails at once, as do all after
    `stop_waiting`.
    """

    def __init__(self, uri: str, settings: StorageExecution) -> None:
        super().__init__(uri, settings.model_copy(update={"retries": min(RETRIES, settings.retries)}))
        self._outage_s = settings.outage_s
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._away_since: float | None = None

    def stop_waiting(self) -> None:
        """Let calls that wait fail now, and later ones without waiting: the lane is to end."""
        self._stopping.set()

    def put(self, key: str, data: bytes) -> None:
        """As `Store.put`."""
        self._wait_out(lambda: Store.put(self, key, data))

    def put_file(self, key: str, path: Path, *, multipart_above: int = MULTIPART_ABOVE) -> None:
        """As `Store.put_file`."""
        self._wait_out(lambda: Store.put_file(self, key, path, multipart_above=multipart_above))

    def create(self, key: str, data: bytes) -> None:
        """As `Store.create`: one whose reply was lost is told that the object exists."""
        self._wait_out(lambda: Store.create(self, key, data))

    def get(self, key: str) -> bytes:
        """As `Store.get`."""
        return self._wait_out(lambda: Store.get(self, key))

    def read_range(self, key: str, start: int, length: int) -> bytes:
        """As `Store.read_range`."""
        return self._wait_out(lambda: Store.read_range(self, key, start, length))

    def size(self, key: str) -> int | None:
        """As `Store.size`."""
        return self._wait_out(lambda: Store.size(self, key))

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """As `Store.list`, but all at once: a lane lists what lies below one unit."""
        return iter(self._wait_out(lambda: [*Store.list(self, prefix)]))

    def copy(self, source: str, target: str, *, size: int = 0, copy_in_one: int = COPY_IN_ONE) -> None:
        """As `Store.copy`."""
        self._wait_out(lambda: Store.copy(self, source, target, size=size, copy_in_one=copy_in_one))

    def delete(self, keys: Sequence[str]) -> None:
        """As `Store.delete`."""
        self._wait_out(lambda: Store.delete(self, keys))

    def _wait_out(self, call: Callable[[], T]) -> T:
        since: float | None = None
        told = 0.0
        pause = FIRST_PAUSE_S
        while True:
            try:
                result = call()
            except StoreAwayError as error:
                now = time.monotonic()
                with self._lock:
                    self._away_since = now if self._away_since is None else self._away_since
                    # Its own time counts too: where only some calls fail, others succeed meanwhile.
                    since = self._away_since if since is None else min(since, self._away_since)
                if self._stopping.is_set() or now - since >= self._outage_s:
                    raise StoreAwayError(f"{error} (waited {now - since:.0f} s, execution.storage.outage_s)") from error
                if now - told >= TOLD_EVERY_S:
                    told = now
                    logger.warning("the store is away for %.0f s: %s", now - since, error)
            else:
                with self._lock:
                    self._away_since = None
                if since is not None:
                    logger.warning("the store is back after %.0f s", time.monotonic() - since)
                return result
            self._stopping.wait(pause)
            pause = min(LONGEST_PAUSE_S, 2 * pause)


def patient(store: Store) -> Store:
    """The same store, patient; a local folder is never away."""
    return store if store.is_local else PatientStore(store.uri, store.settings)
