"""The committed JSONL of many shards, in order: fetched ahead by threads, each checked against its sha256."""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

from caprl_core.errors import StoreError
from caprl_core.storage.commit import CommitRecord
from caprl_core.storage.publish import read_object
from caprl_core.storage.store import Store

AHEAD_BYTES = 128 * 2**20
"""Bytes fetched ahead at most (one shard is always allowed): 60 shards of 1,000 rows of 2 kB."""


class ShardLines(NamedTuple):
    """A shard's rows as they were committed, newlines included."""

    record: CommitRecord
    lines: list[bytes]


def shard_lines(store: Store, records: Sequence[CommitRecord], *, threads: int) -> Iterator[ShardLines]:
    """Every shard's lines, in the order of `records`; memory stays at `AHEAD_BYTES` whatever their number.

    Raises `StoreError` when an object is missing or is not the committed one.
    """
    waiting: deque[tuple[CommitRecord, Future[bytes]]] = deque()
    ahead = 0
    upcoming = iter(records)
    following = next(upcoming, None)
    pool = ThreadPoolExecutor(threads, thread_name_prefix="caprl-lines")
    try:
        while waiting or following is not None:
            while following is not None and (
                not waiting or (len(waiting) < 2 * threads and ahead + _size(following) <= AHEAD_BYTES)
            ):
                waiting.append((following, pool.submit(_fetch, store, following)))
                ahead += _size(following)
                following = next(upcoming, None)
            record, future = waiting.popleft()
            lines = future.result().splitlines(keepends=True)
            del future
            ahead -= _size(record)
            yield ShardLines(record, lines)
            del lines
    finally:
        pool.shutdown(cancel_futures=True)


def _size(record: CommitRecord) -> int:
    return record.object("jsonl").size


def _fetch(store: Store, record: CommitRecord) -> bytes:
    item = record.object("jsonl")
    data = read_object(store, item)
    if data.count(b"\n") != record.rows:
        raise StoreError(f"{store.uri}/{item.final_key}: commit {record.unit} counts {record.rows} rows, it has others")
    return data
