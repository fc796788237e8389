"""Proof from the bucket alone that nothing is lost, doubled or changed: every planned sample is a row, a ledger line
with a reason, or pending.
"""

import hashlib
import io
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import pyarrow.parquet as pq

from caprl_core.data.reasons import Reason
from caprl_core.errors import CaprlError, ObjectMissingError
from caprl_core.shards.dataset import Dataset
from caprl_core.shards.verify_tar import TarredRow, tar_problems, tarred_row
from caprl_core.storage.commit import CommitRecord, CommittedObject, latest_units, list_units, read_commits
from caprl_core.storage.layout import SHARDS, Unit
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
    """Check plan, commit records, ledgers and rows; with `deep` also every byte of every tar and superseded revision.

    Commit records are read themselves, not their cached copy. Memory is a few shards' rows, whatever the size of the
    dataset. `progress` is told each finished shard. May run beside an `annotate`.
    """
    store = dataset.store
    if (wrong := _plan_problem(dataset)) is not None:
        return _unproven(dataset, wrong)
    # Before the commits: what is published was committed before, so that nothing seems stray in a running dataset.
    sizes = published_sizes(store)
    units = list_units(store)
    records = list(read_commits(store, units, use_cache=False))
    newest = latest_units(units)
    problems = [
        f"commit {record.unit}: shard {record.shard} is not in the plan"
        for record in records
        if _beyond(dataset, record)
    ]
    problems += _gaps(units)
    problems += _strays(dataset, records, sizes)
    current = [r for r in records if newest[r.shard] == r.unit and not _beyond(dataset, r)]
    others = [r for r in records if newest[r.shard] != r.unit or _beyond(dataset, r)]
    rows = rejected = checked = 0
    with ThreadPoolExecutor(threads) as pool:
        for older in pool.map(lambda record: _older(dataset, record, sizes, deep), others):
            problems += older
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


def _plan_problem(dataset: Dataset) -> str | None:
    digest = hashlib.sha256()
    try:
        for chunk in dataset.store.stream(dataset.record.plan_key):
            digest.update(chunk)
    except ObjectMissingError:
        return f"{dataset.record.plan_key}: the plan is missing; restore it from a backup or a download"
    if digest.hexdigest() != dataset.record.plan_sha256:
        return f"{dataset.record.plan_key}: the plan's content is not the one this dataset was created with"
    return None


def _unproven(dataset: Dataset, problem: str) -> VerifyReport:
    """Without its plan nothing can be said about a dataset."""
    return VerifyReport(
        planned=dataset.record.samples,
        rows=0,
        rejected=0,
        pending=0,
        shards=dataset.record.shards,
        shards_committed=0,
        revisions=0,
        unpublished=0,
        bytes_checked=0,
        problem_count=1,
        problems=(problem,),
    )


def _gaps(units: Sequence[Unit]) -> list[str]:
    """Each revision rests on the one before, and commit records are never deleted."""
    there = set(units)
    return [
        f"commit {unit}: revision {unit.revision - 1}, which it supersedes, is missing"
        for unit in units
        if unit.revision and Unit(unit.shard, unit.revision - 1) not in there
    ]


def _strays(dataset: Dataset, records: Iterable[CommitRecord], sizes: dict[str, int]) -> list[str]:
    """Published names of this dataset that no commit names: who expands the names reads them all the same."""
    named = {item.final_key for record in records for item in record.objects}
    own = f"{SHARDS}/{dataset.record.name}-"
    return [f"{key}: no commit names this object" for key in sizes if key.startswith(own) and key not in named]


def _older(dataset: Dataset, record: CommitRecord, sizes: dict[str, int], deep: bool) -> list[str]:
    """Superseded revisions must still be there whole: committed content never changes."""
    problems = []
    for item in record.objects:
        try:
            if deep and _stored_sha256(dataset, item) != item.sha256:
                problems.append(f"commit {record.unit}: {item.final_key} does not have the committed sha256")
            elif not deep and sizes.get(item.final_key) != item.size:
                locate(dataset.store, item)
        except CaprlError as error:
            problems.append(f"commit {record.unit}: {error}")
    return problems


def _stored_sha256(dataset: Dataset, item: CommittedObject) -> str:
    digest = hashlib.sha256()
    for chunk in dataset.store.stream(locate(dataset.store, item)):
        digest.update(chunk)
    return digest.hexdigest()


def _shard(dataset: Dataset, record: CommitRecord, deep: bool) -> _Found:
    try:
        try:
            problems = list(_shard_problems(dataset, record, deep))
        except ObjectMissingError:
            problems = list(_shard_problems(dataset, record, deep))  # published and swept while it was read
    except (CaprlError, OSError, ValueError, KeyError) as error:
        problems = [f"commit {record.unit}: {error}"]
    size = sum(item.size for item in record.objects if deep or item.role != "tar")
    return _Found(record.rows, record.rejected, size, problems)


def _shard_problems(dataset: Dataset, record: CommitRecord, deep: bool) -> Iterator[str]:
    where = f"commit {record.unit}"
    if record.fingerprint != dataset.record.fingerprint:
        yield f"{where}: made by another recipe (fingerprint {record.fingerprint[:12]}…)"
    for item in record.objects:
        if item.final_key != record.unit.final_key(dataset.record.name, item.role):
            yield f"{where}: {item.final_key!r} is no name of its shard"
    columns = ["key", "status", "reason"]
    ledger = pq.read_table(io.BytesIO(read_object(dataset.store, record.object("ledger"))), columns=columns).to_pylist()
    rows = [tarred_row(line) for line in read_object(dataset.store, record.object("jsonl")).splitlines(keepends=True)]
    yield from _conservation(where, dataset.plan.shard_keys(record.shard), ledger, rows, record)
    tar = record.object("tar")
    key = locate(dataset.store, tar)
    if deep:
        yield from tar_problems(where, dataset.store.open(key), rows, tar.sha256)


def _conservation(
    where: str, planned: list[str], ledger: list[dict[str, Any]], rows: list[TarredRow], record: CommitRecord
) -> Iterator[str]:
    if [line["key"] for line in ledger] != planned:
        yield f"{where}: the ledger does not list exactly the planned samples, in order"
    if [line["key"] for line in ledger if line["status"] == "row"] != [row.key for row in rows]:
        yield f"{where}: the rows are not exactly those the ledger counts as rows, in order"
    without = [line["key"] for line in ledger if line["status"] != "row" and line["reason"] not in list(Reason)]
    if without:
        yield f"{where}: {len(without)} rejected samples have no known reason, first {without[0]}"
    reasons = Counter(line["reason"] for line in ledger if line["status"] != "row")
    attempts = Counter(str(row.attempt) for row in rows)
    counts = (record.samples, record.rows, record.rejected, record.reasons, record.attempts)
    if counts != (len(ledger), len(rows), len(ledger) - len(rows), reasons, attempts):
        yield f"{where}: the commit counts {record.rows} rows and {record.rejected} rejected, its objects hold others"
