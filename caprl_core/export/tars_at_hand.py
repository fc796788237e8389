"""The tars of shards as local files, one after the other: a local store's own, or copies fetched ahead."""

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from caprl_core.export.fetching import Wanted, fetch
from caprl_core.storage.commit import CommitRecord
from caprl_core.storage.publish import locate
from caprl_core.storage.store import Store

AHEAD = 4
"""Tars fetched ahead: four streams fill 1 Gbit/s from S3, and four shards of 300 MB fit on any disk."""


def tars_at_hand(store: Store, records: Sequence[CommitRecord], folder: Path) -> Iterator[Path]:
    """A path for each record, in order; valid until the next one is asked for. Copies lie in `folder` meanwhile.

    Raises `StoreError` or `WrongContentError` when a fetched tar is not the committed one.
    """
    if store.is_local:
        for record in records:
            yield Path(store.uri) / locate(store, record.object("tar"))
        return
    folder.mkdir(parents=True, exist_ok=True)
    stop = threading.Event()
    pool = ThreadPoolExecutor(AHEAD, thread_name_prefix="caprl-tars")
    waiting: deque[Future[Path]] = deque()
    upcoming = iter(records)

    def bring(record: CommitRecord) -> Path:
        item = record.object("tar")
        path = folder / f"{record.unit}.tar"
        wanted = Wanted(locate(store, item), item.final_key, item.size, item.sha256)
        fetch(store, wanted, path, stop, lambda more, received: None)
        return path

    try:
        for record in upcoming:
            waiting.append(pool.submit(bring, record))
            if len(waiting) > AHEAD:
                yield from _one(waiting)
        while waiting:
            yield from _one(waiting)
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)


def _one(waiting: deque[Future[Path]]) -> Iterator[Path]:
    path = waiting.popleft().result()
    yield path
    path.unlink()
