"""Proof from the bucket alone that nothing is lost, doubled or changed: every planned sample is a row, a ledger line
with a reason, or pending.
"""

import hashlib
import io
import tarfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import IO, Any, NamedTuple

import orjson
import pyarrow.parquet as pq

from caprl_core.data.reasons import Reason
from caprl_core.errors import CaprlError
from caprl_core.shards.dataset import Dataset
from caprl_core.storage.commit import CommitRecord, latest_units, list_units, read_commits
from caprl_core.storage.publish import is_published, locate, published_sizes, read_object

PROBLEMS_SHOWN = 1000
"""Problems kept in the report; the count is always whole."""


class VerifyReport(NamedTuple):
    """`planned == rows + rejected + pending` and `problem_count == 0` hold for a sound dataset. Counts are samples."""

    planned: int
    rows: int
    rejected: int
    pending: int
    shards: int
    shards_committed: int
    revisions: int
    unpublished: int
    bytes_checked: int
    problem_count: int
    problems: tuple[str, ...]

    @property
    def sound(self) -> bool:
        """Nothing is wrong; pending samples are not wrong."""
        return self.problem_count == 0 and self.planned == self.rows + self.rejected + self.pending


def verify(
    dataset: Dataset, *, deep: bool = False, threads: int = 8, progress: Callable[[int], None] = lambda _: None
) -> VerifyReport:
    """Check plan, commit records, ledgers and rows; with `deep` also every byte of every tar.

    Memory is a few shards' rows, whatever the size of the dataset. `progress` is told each finished shard.
    """
    store = dataset.store
    problems: list[str] = []
    digest = hashlib.sha256()
    for chunk in store.stream(dataset.record.plan_key):
        digest.update(chunk)
    if digest.hexdigest() != dataset.record.plan_sha256:
        problems.append(f"{dataset.record.plan_key}: the plan's content is not the one this dataset was created with")
    units = list_units(store)
    records = list(read_commits(store, units))
    newest = latest_units(units)
    sizes = published_sizes(store)
    problems += [
        f"commit {record.unit}: shard {record.shard} is not in the plan"
        for record in records
        if _beyond(dataset, record)
    ]
    current = [r for r in records if newest[r.shard] == r.unit and not _beyond(dataset, r)]
    problems += [p for record in records if record not in current for p in _older(dataset, record, sizes)]
    rows = rejected = checked = 0
    with ThreadPoolExecutor(threads) as pool:
        for number, found in enumerate(pool.map(lambda record: _shard(dataset, record, deep), current), start=1):
            rows, rejected, checked = rows + found.rows, rejected + found.rejected, checked + found.bytes_checked
            problems += found.problems
            progress(number)
    committed = {record.shard for record in current}
    pending = sum(len(dataset.plan.shard_keys(s)) for s in range(dataset.record.shards) if s not in committed)
    return VerifyReport(
        planned=dataset.record.samples,
        rows=rows,
        rejected=rejected,
        pending=pending,
        shards=dataset.record.shards,
        shards_committed=len(current),
        revisions=len(records) - len(current),
        unpublished=sum(not is_published(record, sizes) for record in records),
        bytes_checked=checked,
        problem_count=len(problems),
        problems=tuple(problems[:PROBLEMS_SHOWN]),
    )


class _Found(NamedTuple):
    rows: int
    rejected: int
    bytes_checked: int
    problems: list[str]


def _beyond(dataset: Dataset, record: CommitRecord) -> bool:
    return not 0 <= record.shard < dataset.record.shards


def _older(dataset: Dataset, record: CommitRecord, sizes: dict[str, int]) -> list[str]:
    """Superseded revisions must still be there whole: committed content never changes."""
    missing = []
    for item in record.objects:
        if sizes.get(item.final_key) != item.size and dataset.store.size(item.attempt_key) != item.size:
            missing.append(f"commit {record.unit}: {item.final_key} is missing or has another size")
    return missing


def _shard(dataset: Dataset, record: CommitRecord, deep: bool) -> _Found:
    try:
        problems = list(_shard_problems(dataset, record, deep))
    except (CaprlError, OSError, ValueError) as error:
        problems = [f"commit {record.unit}: {error}"]
    size = sum(item.size for item in record.objects if deep or item.role != "tar")
    return _Found(record.rows, record.rejected, size, problems)


def _shard_problems(dataset: Dataset, record: CommitRecord, deep: bool) -> Iterator[str]:
    where = f"commit {record.unit}"
    if record.fingerprint != dataset.record.fingerprint:
        yield f"{where}: made by another recipe (fingerprint {record.fingerprint[:12]}…)"
    contents = {}
    for role in ("ledger", "jsonl"):
        item = record.object(role)
        contents[role] = read_object(dataset.store, item)
        if hashlib.sha256(contents[role]).hexdigest() != item.sha256:
            yield f"{where}: {item.final_key} does not have the committed sha256"
            return
    ledger = pq.read_table(io.BytesIO(contents["ledger"])).to_pylist()
    rows = [orjson.loads(line) for line in contents["jsonl"].splitlines()]
    yield from _conservation(where, dataset.plan.shard_keys(record.shard), ledger, rows, record)
    tar = record.object("tar")
    key = locate(dataset.store, tar)
    if deep:
        yield from _tar_problems(where, dataset.store.open(key), rows, tar.sha256)


def _conservation(
    where: str, planned: list[str], ledger: list[dict[str, Any]], rows: list[dict[str, Any]], record: CommitRecord
) -> Iterator[str]:
    if [line["key"] for line in ledger] != planned:
        yield f"{where}: the ledger does not list exactly the planned samples, in order"
    if [line["key"] for line in ledger if line["status"] == "row"] != [row["key"] for row in rows]:
        yield f"{where}: the rows are not exactly those the ledger counts as rows, in order"
    without = [line["key"] for line in ledger if line["status"] != "row" and line["reason"] not in list(Reason)]
    if without:
        yield f"{where}: {len(without)} rejected samples have no known reason, first {without[0]}"
    if (record.rows, record.rejected) != (len(rows), len(ledger) - len(rows)):
        yield f"{where}: the commit counts {record.rows} rows and {record.rejected} rejected, its objects hold others"


class _HashingReader(io.RawIOBase):
    """Hashes what is read, so that one pass gives members and digest."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.hash = hashlib.sha256()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        self.hash.update(data)
        return len(data)


def _tar_problems(where: str, file: IO[bytes], rows: list[dict[str, Any]], sha256: str) -> list[str]:
    raw = _HashingReader(file)
    reader = io.BufferedReader(raw, 1 << 20)
    try:
        problems = list(_member_problems(where, reader, rows))
    except (tarfile.TarError, EOFError) as error:
        problems = [f"{where}: the tar cannot be read: {error}"]
    while reader.read(1 << 20):
        pass
    if raw.hash.hexdigest() != sha256:
        problems.insert(0, f"{where}: the tar does not have the committed sha256")
    return problems


def _member_problems(where: str, reader: IO[bytes], rows: list[dict[str, Any]]) -> Iterator[str]:
    with tarfile.open(fileobj=reader, mode="r|") as tar:
        members = ((item.name, tar.extractfile(item)) for item in tar)
        for row in rows:
            for name in (row["image_file"], f"{row['key']}.json", f"{row['key']}.txt"):
                found, content = next(members, (None, None))
                if found != name or content is None:
                    yield f"{where}: the tar has {found} where {name} should be"
                    return
                if name == row["image_file"] and hashlib.sha256(content.read()).hexdigest() != row["member_sha256"]:
                    yield f"{where}: {name} in the tar does not have the sha256 of its row"
        if (extra := next(members, None)) is not None:
            yield f"{where}: the tar has a member that no row names: {extra[0]}"
