"""The plan: a deterministic assignment of every source record to a shard, as one parquet file with a row group a shard.

Two passes keep memory flat: the first streams the records to a scratch file and keeps 16 to 32 bytes of digests a
record in arrays, the second gives out keys and shards (5,000,000 samples stay under 400 MB).
"""

import hashlib
from array import array
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from caprl_core.data.sample import SourceRecord
from caprl_core.data.storable import storable
from caprl_core.errors import BadInputError, ObjectMissingError
from caprl_core.recipe.models import SourceRecipe, StageRecipe
from caprl_core.shards.content_digests import ContentDigests
from caprl_core.shards.plan_file import PLAN_SCHEMA, PlanReport
from caprl_core.shards.scratch import scratch_folder
from caprl_core.shards.stage_rows import open_any_source
from caprl_core.storage.store import Store

BATCH = 8192
"""Records handled at once: at 2 kB a record 16 MB."""
BATCH_BYTES = 32 * 2**20
"""Bytes of payload handled at once: one large row of a stage before is no reason to hold thousands of them."""
EXAMPLES = 20
"""Duplicates named in the report; the count is always whole."""

_SCRATCH = pa.schema(
    [
        *(PLAN_SCHEMA.field(name) for name in ("image", "record_id", "original_caption", "problem", "payload")),
        pa.field("given_key", pa.string()),
    ]
)


def write_plan(recipe: StageRecipe, store: Store, progress: Callable[[int], None] = lambda _: None) -> PlanReport:
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
    """Pass one: per source a scratch parquet, and per record its source and the two digests.

    payloads: some record has one; given: digests of the keys that came with records.
    """

    paths: list[Path]
    records: dict[str, int]
    problems: int
    payloads: bool
    given: npt.NDArray[np.void]
    source_of: npt.NDArray[np.uint16]
    usable: npt.NDArray[np.bool_]
    path_digest: npt.NDArray[np.void]
    content_digest: npt.NDArray[np.void] | None


def _read_sources(
    recipe: StageRecipe, folder: Path, digests: ContentDigests | None, progress: Callable[[int], None]
) -> _Scratch:
    source_of = array("H")
    usable = array("b")
    path_digests = bytearray()
    contents = bytearray()
    given = bytearray()
    payloads = False
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
                given += b"".join(_digest(record.key) for record in batch if record.key is not None)
                payloads = payloads or any(record.payload is not None for record in batch)
                if digests is not None:
                    contents += digests.of(source.name, batch)
                progress(len(source_of))
    return _Scratch(
        paths,
        dict(records),
        usable.count(0),
        payloads,
        np.frombuffer(given, dtype=_DIGEST),
        np.frombuffer(source_of, dtype=np.uint16),
        np.frombuffer(usable, dtype=np.bool_),
        np.frombuffer(path_digests, dtype=_DIGEST),
        np.frombuffer(contents, dtype=_DIGEST) if digests is not None else None,
    )


def _batches(source: SourceRecipe, recipe: StageRecipe) -> Iterator[list[SourceRecord]]:
    batch: list[SourceRecord] = []
    held = 0
    for number, record in enumerate(_records(source, recipe)):
        if source.limit is not None and number >= source.limit:
            break
        batch.append(record)
        held += len(record.payload or "")
        if len(batch) == BATCH or held >= BATCH_BYTES:
            yield batch
            batch, held = [], 0
    if batch:
        yield batch


def _records(source: SourceRecipe, recipe: StageRecipe) -> Iterator[SourceRecord]:
    try:
        yield from open_any_source(source, recipe.execution.storage).records()
    except ObjectMissingError as error:
        raise BadInputError(f"source {source.name}: {error}; put it there, or change its uri in the recipe") from error


def _scratch_batch(batch: list[SourceRecord]) -> pa.RecordBatch:
    columns: list[list[str | None]] = [
        [_utf8(record.image) for record in batch],
        [_utf8(record.record_id) for record in batch],
        [_utf8(record.caption) for record in batch],
        [_utf8(record.problem) for record in batch],
        [_utf8(record.payload) for record in batch],
        [record.key for record in batch],
    ]
    return pa.record_batch([pa.array(column, pa.string()) for column in columns], schema=_SCRATCH)


def _utf8(text: str | None) -> str | None:
    """Text that arrow can hold."""
    return None if text is None else storable(text)


_DIGEST = np.dtype([("high", ">u8"), ("low", ">u4")])
"""12 bytes: among 5,000,000 images two share them with probability 2e-16."""


def _path_digest(source: str, image: str) -> bytes:
    return _digest(f"{source}\0{image}")


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=_DIGEST.itemsize).digest()


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


def _assign(recipe: StageRecipe, scratch: _Scratch, path: Path) -> dict[str, Any]:
    """Pass two: keys, duplicates, shards."""
    names = [source.name for source in recipe.sources]
    if _occurrences(scratch.given)[0].any():
        raise BadInputError(
            f"recipe {recipe.name}: several of its {len(scratch.given)} rows have the same key, as those of datasets "
            "made of the same images do; make a dataset of each"
        )
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
    schema = PLAN_SCHEMA if scratch.payloads else PLAN_SCHEMA.remove(PLAN_SCHEMA.get_field_index("payload"))
    with pq.ParquetWriter(path, schema, compression="zstd", write_statistics=False) as writer:
        for rows in _shards(scratch, names, key_of, keep, recipe.dataset.shard_samples):
            count = rows.num_rows
            numbers = pa.array(np.full(count, shard, np.int32))
            positions = pa.array(np.arange(count, dtype=np.int32))
            columns = [rows.column(0), numbers, positions, *rows.columns[1:]][: len(schema)]
            writer.write_table(pa.table(columns, schema=schema), row_group_size=count)
            shard += 1
    return {
        "samples": int(keep.sum()),
        "shards": shard,
        "duplicates": int(duplicate.sum()),
        "dropped": int((~keep).sum()),
        "duplicate_examples": tuple(examples),
    }


_KEYED = pa.schema([PLAN_SCHEMA.field("key"), PLAN_SCHEMA.field("source"), *list(_SCRATCH)[:-1]])


def _shards(
    scratch: _Scratch, names: list[str], key_of: Callable[[int], str], keep: npt.NDArray[np.bool_], size: int
) -> Iterator[pa.Table]:
    """Tables of `size` kept records (the last may be shorter), in source order."""
    position = 0
    waiting: list[pa.Table] = []
    held = 0
    for number, path in enumerate(scratch.paths):
        file = pq.ParquetFile(path)
        for batch in map(file.read_row_group, range(file.num_row_groups)):  # as they were written
            kept = np.flatnonzero(keep[position : position + batch.num_rows])
            source = pa.array([names[number]] * len(kept), pa.string())
            table = batch.take(pa.array(kept))
            given = table.column("given_key").to_pylist()
            keys = [given[n] or key_of(position + int(i)) for n, i in enumerate(kept)]
            waiting.append(pa.table([pa.array(keys, pa.string()), source, *table.columns[:-1]], schema=_KEYED))
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
