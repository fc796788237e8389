"""The plan as it lies in the store: one parquet file with a row group a shard, read one shard at a time."""

import threading
from typing import NamedTuple

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from caprl_core.data.sample import PlannedSample
from caprl_core.storage.store import Store

PLAN_SCHEMA = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("shard", pa.int32(), nullable=False),
        pa.field("index", pa.int32(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("image", pa.string(), nullable=False),
        pa.field("record_id", pa.string()),
        pa.field("original_caption", pa.string()),
        pa.field("problem", pa.string()),
        pa.field("payload", pa.string()),
    ]
)
"""A dataset without payloads has a plan without that column: the bytes it had before there were any."""


class PlanReport(NamedTuple):
    """What planning found. `digest` is the sha256 of the plan file, `key` where it lies in the store."""

    key: str
    digest: str
    size: int
    samples: int
    shards: int
    records: dict[str, int]
    problems: int
    duplicates: int
    dropped: int
    duplicate_examples: tuple[tuple[str, str], ...]


class Plan:
    """A written plan, read one shard at a time. Thread-safe."""

    def __init__(self, store: Store, key: str) -> None:
        self._store = store
        self._key = key
        self._lock = threading.Lock()
        self._file: pq.ParquetFile | None = None

    def shard(self, number: int) -> list[PlannedSample]:
        """The samples of a shard, in order."""
        with self._lock:
            table = self._open().read_row_group(number)
        return [PlannedSample(**row) for row in table.to_pylist()]

    def shard_keys(self, number: int) -> list[str]:
        """Only the keys of a shard, in order: what `verify` needs."""
        with self._lock:
            return list(self._open().read_row_group(number, columns=["key"]).column("key").to_pylist())

    @property
    def shards(self) -> int:
        """Number of shards."""
        with self._lock:
            return int(self._open().num_row_groups)

    def _open(self) -> pq.ParquetFile:
        if self._file is None:
            self._file = pq.ParquetFile(self._store.open(self._key))
        return self._file


def report_json(report: PlanReport) -> bytes:
    """The report as it is stored beside the plan."""
    return orjson.dumps(report._asdict(), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
