"""The plan: a deterministic assignment of every source record to a shard, as one parquet file with a row group a shard.

Two passes keep memory flat: the first streams the records to a scratch file and keeps 16 to 32 bytes of digests a
record in arrays, the second gives out keys and shards (5,000,000 samples stay under 400 MB).
"""

import hashlib
import threading
from array import array
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from caprl_core.data.sample import PlannedSample, SourceRecord
from caprl_core.data.sources import open_source
from caprl_core.errors import BadInputError
from caprl_core.recipe.models import CaptionRecipe, SourceRecipe
from caprl_core.shards.content_digests import ContentDigests
from caprl_core.shards.scratch import scratch_folder
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
    ]
)
BATCH = 8192
"""Records handled at once: at 2 kB a record 16 MB."""
EXAMPLES = 20
"""Duplicates named in the report; the count is always whole."""

_SCRATCH = pa.schema([PLAN_SCHEMA.field(name) for name in ("image", "record_id", "original_caption", "problem")])


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


def write_plan(recipe: CaptionRecipe, store: Store, progress: Callable[[int], None] = lambda _: None) -> PlanReport:
    """Read every source, write the plan to the store, return what was found.

    The plan's key holds its digest, so racing planners cannot harm each other, and the same input gives the same bytes.
    `progress` is told the number of records read so far. Raises `BadInputError` when a source cannot be read.
    """
    by_content = recipe.dataset.deduplicate.by == "sha256"
    with (
        scratch_folder(recipe.execution.runner.spool_dir) as folder,
        closing(ContentDigests(recipe)) if by_content else nullcontext() as digests,
    ):
        scratch = _read_sources(recipe, folder, digests, progress)
        if len(scratch.source_of) == 0:
            raise BadInputError(f"recipe {recipe.name}: the sources hold no record at all; check uri and limit")
        path = folder / "plan.parquet"
        found = _assign(recipe, scratch, path)
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        key = f"plan/plan-{digest[:16]}.parquet"
        size = path.stat().st_size
        if store.size(key) != size:
            store.put_file(key, path)
    return PlanReport(key=key, digest=digest, size=size, records=scratch.records, problems=scratch.problems, **found)


@dataclass(frozen=True, slots=True)
class _Scratch:
    """Pass one: per source a scratch parquet, and per record its source and the two digests."""

    paths: list[Path]
    records: dict[str, int]
    problems: int
    source_of: npt.NDArray[np.uint16]
    usable: npt.NDArray[np.bool_]
    path_digest: npt.NDArray[np.void]
    content_digest: npt.NDArray[np.void] | None


def _read_sources(
    recipe: CaptionRecipe, folder: Path, digests: ContentDigests | None, progress: Callable[[int], None]
) -> _Scratch:
    source_of = array("H")
    usable = array("b")
    path_digests = bytearray()
    contents = bytearray()
    paths: list[Path] = []
    records: Counter[str] = Counter()
    for number, source in enumerate(recipe.sources):
        paths.append(folder / f"source-{number}.parquet")
        with pq.ParquetWriter(paths[-1], _SCRATCH, compression="zstd", compression_level=1) as writer:
            for batch in _batches(source, recipe):
                writer.write_batch(_scratch_batch(batch))
                path_digests += b"".join(_path_digest(source.name, record.image) for record in batch)
                source_of.extend([number] * len(batch))
                records[source.name] += len(batch)
                usable.extend(record.problem is None for record in batch)
                if digests is not None:
                    contents += digests.of(source.name, batch)
                progress(len(source_of))
    return _Scratch(
        paths,
        dict(records),
        usable.count(0),
        np.frombuffer(source_of, dtype=np.uint16),
        np.frombuffer(usable, dtype=np.bool_),
        np.frombuffer(path_digests, dtype=_DIGEST),
        np.frombuffer(contents, dtype=_DIGEST) if digests is not None else None,
    )


def _batches(source: SourceRecipe, recipe: CaptionRecipe) -> Iterator[list[SourceRecord]]:
    batch: list[SourceRecord] = []
    for number, record in enumerate(open_source(source, recipe.execution.storage).records()):
        if source.limit is not None and number >= source.limit:
            break
        batch.append(record)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _scratch_batch(batch: list[SourceRecord]) -> pa.RecordBatch:
    columns: list[list[str | None]] = [
        [_utf8(record.image) for record in batch],
        [_utf8(record.record_id) for record in batch],
        [_utf8(record.caption) for record in batch],
        [_utf8(record.problem) for record in batch],
    ]
    return pa.record_batch([pa.array(column, pa.string()) for column in columns], schema=_SCRATCH)


def _utf8(text: str | None) -> str | None:
    """Lone surrogates, which JSON can carry and arrow cannot, become `?`."""
    if text is None or text.isascii():
        return text
    return text.encode("utf-8", "replace").decode("utf-8")


_DIGEST = np.dtype([("high", ">u8"), ("low", ">u4")])
"""12 bytes: among 5,000,000 images two share them with probability 2e-16."""


def _path_digest(source: str, image: str) -> bytes:
    text = f"{source}\0{image}".encode("utf-8", "surrogatepass")
    return hashlib.blake2b(text, digest_size=_DIGEST.itemsize).digest()


def _occurrences(digests: npt.NDArray[np.void]) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """For each record: how many equal ones come before it, and the position of the first of them."""
    order = np.lexsort((digests["low"], digests["high"]))  # stable: equal digests keep the order of the records
    ranked = digests[order]
    new = np.ones(len(order), dtype=bool)
    new[1:] = (ranked["high"][1:] != ranked["high"][:-1]) | (ranked["low"][1:] != ranked["low"][:-1])
    starts = np.flatnonzero(new)[np.cumsum(new) - 1]
    count = np.empty(len(order), dtype=np.int32)
    first = np.empty(len(order), dtype=np.int64)
    count[order] = np.arange(len(order)) - starts
    first[order] = order[starts]
    return count, first


def _assign(recipe: CaptionRecipe, scratch: _Scratch, path: Path) -> dict[str, Any]:
    """Pass two: keys, duplicates, shards."""
    names = [source.name for source in recipe.sources]
    repeat, first = _occurrences(scratch.path_digest)
    by = recipe.dataset.deduplicate.by
    if by == "none":
        duplicate = np.zeros(len(repeat), dtype=bool)
    elif scratch.content_digest is not None:
        copies, first = _occurrences(scratch.content_digest)
        duplicate = copies > 0
    else:
        duplicate = repeat > 0
    # Records without a usable image all refer to the same nothing: each is a ledger line of its own.
    duplicate &= scratch.usable
    keep = ~duplicate if recipe.dataset.deduplicate.drop else np.ones(len(repeat), dtype=bool)

    def key_of(position: int) -> str:
        high, low = scratch.path_digest[position].item()
        number = int(repeat[position])
        return f"{names[scratch.source_of[position]]}-{high:016x}{low:08x}" + (f"-{number}" if number else "")

    examples = [(key_of(int(p)), key_of(int(first[p]))) for p in np.flatnonzero(duplicate)[:EXAMPLES]]
    shard = 0
    with pq.ParquetWriter(path, PLAN_SCHEMA, compression="zstd", write_statistics=False) as writer:
        for rows in _shards(scratch, names, key_of, keep, recipe.dataset.shard_samples):
            count = rows.num_rows
            numbers = pa.array(np.full(count, shard, np.int32))
            positions = pa.array(np.arange(count, dtype=np.int32))
            columns = [rows.column(0), numbers, positions, *rows.columns[1:]]
            writer.write_table(pa.table(columns, schema=PLAN_SCHEMA), row_group_size=count)
            shard += 1
    return {
        "samples": int(keep.sum()),
        "shards": shard,
        "duplicates": int(duplicate.sum()),
        "dropped": int((~keep).sum()),
        "duplicate_examples": tuple(examples),
    }


def _shards(
    scratch: _Scratch, names: list[str], key_of: Callable[[int], str], keep: npt.NDArray[np.bool_], size: int
) -> Iterator[pa.Table]:
    """Tables of `size` kept records (the last may be shorter), in source order."""
    position = 0
    waiting: list[pa.Table] = []
    held = 0
    for number, path in enumerate(scratch.paths):
        for batch in pq.ParquetFile(path).iter_batches(BATCH):
            kept = np.flatnonzero(keep[position : position + batch.num_rows])
            keys = pa.array([key_of(position + int(i)) for i in kept], pa.string())
            source = pa.array([names[number]] * len(kept), pa.string())
            table = pa.Table.from_batches([batch]).take(pa.array(kept))
            waiting.append(
                pa.table(
                    [keys, source, *table.columns],
                    schema=pa.schema([PLAN_SCHEMA.field("key"), PLAN_SCHEMA.field("source"), *_SCRATCH]),
                )
            )
            held += len(kept)
            position += batch.num_rows
            if held >= size:
                whole = pa.concat_tables(waiting).combine_chunks()
                ready = held - held % size
                for start in range(0, ready, size):
                    yield whole.slice(start, size)
                waiting, held = [whole.slice(ready)], held - ready
    if held:
        yield pa.concat_tables(waiting).combine_chunks()


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
