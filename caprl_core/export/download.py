"""A verified local copy of a dataset: parallel, resumable, and itself a dataset that every other command can open."""

import threading
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import NamedTuple

from caprl_core.errors import BadInputError, ObjectMissingError, StoreError
from caprl_core.export.fetching import Wanted, WrongContentError, digest_of, fetch
from caprl_core.export.verified_files import VerifiedFiles, inside
from caprl_core.shards.current import current_commits
from caprl_core.shards.dataset import Dataset, open_dataset
from caprl_core.storage.commit import CommitRecord, CommittedObject
from caprl_core.storage.layout import DATASET, PLAN_REPORT, ROLES, SHARDS
from caprl_core.storage.publish import locate
from caprl_core.storage.store import Store

FAILURES_SHOWN = 100
"""Failures kept in the report; the counts are always whole."""


class DownloadProgress(NamedTuple):
    """Files and bytes so far and in all; files that were already there count as done."""

    files: int
    files_total: int
    bytes: int
    bytes_total: int


class DownloadReport(NamedTuple):
    """What is in the folder now.

    fetched, unchanged: files brought, and files found verified. wrong: objects that are not the committed ones;
    missing: objects that are not there. superseded: files of older revisions, left by earlier downloads. pending:
    samples of the dataset that have no commit yet.
    """

    fetched: int
    unchanged: int
    bytes_fetched: int
    wrong: int
    missing: int
    failures: tuple[str, ...]
    superseded: tuple[str, ...]
    pending: int

    @property
    def complete(self) -> bool:
        """Everything that is committed and was asked for is in the folder."""
        return not (self.wrong or self.missing)


def download(
    store: Store,
    folder: Path,
    *,
    threads: int = 8,
    roles: Collection[str] = ROLES,
    shards: Collection[int] | None = None,
    progress: Callable[[DownloadProgress], None] = lambda _: None,
) -> DownloadReport:
    """Copy the newest revision of each shard (or of some `shards`), with `dataset.json`, plan and commit records.

    Every byte is checked against the commit record's sha256; a file that was verified before and has the same size and
    time stamp since is skipped. An object with a wrong sha256 is fetched again, then reported, and no file of it is
    left. The commit record of a shard is written when all its files are there. Memory: `threads` x 32 MiB and the
    commit records. `progress` is called from the worker threads, one at a time.

    Raises `BadInputError` (no dataset there, unknown roles or shards, another download running, a name that leads out
    of the folder), `StoreError` when the store fails, `OSError` when the disk does; the same call again resumes.
    """
    dataset = open_dataset(store)
    current = current_commits(dataset)
    records = _chosen(dataset, current.records, roles, shards)
    if store.is_local and Path(store.uri) == folder.resolve():
        raise BadInputError(f"{folder} is the dataset itself; choose another folder")
    folder.mkdir(parents=True, exist_ok=True)
    with VerifiedFiles(folder) as verified:
        _refuse_other(folder, dataset)
        plan = _plan(dataset)
        wanted = [record.object(role) for record in records for role in roles]
        run = _Run(store, folder, verified, progress)
        run.files_total = 1 + len(wanted)
        run.bytes_total = plan.size + sum(item.size for item in wanted)
        if run.bring(plan):
            run.write(DATASET, store.get(DATASET))
            if (report := store.size(PLAN_REPORT)) is not None and report < 2**20:
                run.write(PLAN_REPORT, store.get(PLAN_REPORT))
            run.shards(records, roles, threads)
        return DownloadReport(
            fetched=run.fetched,
            unchanged=run.unchanged,
            bytes_fetched=run.bytes_fetched,
            wrong=run.wrong,
            missing=run.missing,
            failures=tuple(run.failures[:FAILURES_SHOWN]),
            superseded=_superseded(folder, dataset, current.records),
            pending=current.pending,
        )


class _Run:
    """One download under way: counts, and the work of the threads."""

    def __init__(
        self, store: Store, folder: Path, verified: VerifiedFiles, progress: Callable[[DownloadProgress], None]
    ) -> None:
        self._store = store
        self._folder = folder
        self._verified = verified
        self._progress = progress
        self._guard = threading.Lock()
        self._stop = threading.Event()
        self._bytes = 0
        self.files_total = 0
        self.bytes_total = 0
        self.fetched = self.unchanged = self.bytes_fetched = self.wrong = self.missing = 0
        self.failures: list[str] = []

    def shards(self, records: Sequence[CommitRecord], roles: Collection[str], threads: int) -> None:
        """Bring every shard; the first store or disk failure stops all threads and is raised."""
        pool = ThreadPoolExecutor(threads, thread_name_prefix="caprl-download")
        try:
            for future in as_completed([pool.submit(self._shard, record, roles) for record in records]):
                future.result()
        finally:
            self._stop.set()
            pool.shutdown(cancel_futures=True)

    def _shard(self, record: CommitRecord, roles: Collection[str]) -> None:
        brought = [self._bring_object(record.object(role)) for role in roles]
        if all(brought):
            self.write(record.unit.commit_key, record.encode())

    def _bring_object(self, item: CommittedObject) -> bool:
        if self._is_here(item.final_key, item.size, item.sha256):
            return True
        try:
            key = locate(self._store, item)
        except StoreError as error:
            return self._failed(item.final_key, error)
        return self.bring(Wanted(key, item.final_key, item.size, item.sha256))

    def bring(self, wanted: Wanted) -> bool:
        """Have one file in the folder, verified; false when the store does not have the right content for it."""
        if self._is_here(wanted.name, wanted.size, wanted.sha256):
            return True
        path = inside(self._folder, wanted.name)
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            fetch(self._store, wanted, path, self._stop, self._advanced)
        except (WrongContentError, ObjectMissingError) as error:
            if isinstance(error, ObjectMissingError) and wanted.key != wanted.name:
                return self.bring(wanted._replace(key=wanted.name))  # published and swept after we looked
            path.unlink(missing_ok=True)
            return self._failed(wanted.name, error)
        self._verified.add(wanted.name, wanted.sha256)
        self._done(fetched=True)
        return True

    def write(self, name: str, data: bytes) -> None:
        """A small file, whole or not at all."""
        path = inside(self._folder, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.part")
        part.write_bytes(data)
        part.replace(path)

    def _is_here(self, name: str, size: int, sha256: str) -> bool:
        path = inside(self._folder, name)
        if not self._verified.holds(name, sha256):
            if not path.is_file() or path.stat().st_size != size or digest_of(path) != sha256:
                return False
            self._verified.add(name, sha256)
        with self._guard:
            self._bytes += size
        self._done(fetched=False)
        return True

    def _failed(self, name: str, error: Exception) -> bool:
        with self._guard:
            self.wrong += isinstance(error, WrongContentError)
            self.missing += not isinstance(error, WrongContentError)
            self.failures.append(f"{name}: {error}")
        return False

    def _advanced(self, more: int, received: int) -> None:
        with self._guard:
            self._bytes += more
            self.bytes_fetched += received
            self._tell()

    def _done(self, *, fetched: bool) -> None:
        with self._guard:
            self.fetched += fetched
            self.unchanged += not fetched
            self._tell()

    def _tell(self) -> None:
        self._progress(DownloadProgress(self.fetched + self.unchanged, self.files_total, self._bytes, self.bytes_total))


def _chosen(
    dataset: Dataset, records: Sequence[CommitRecord], roles: Collection[str], shards: Collection[int] | None
) -> list[CommitRecord]:
    unknown = [role for role in roles if role not in ROLES]
    if unknown or not roles:
        raise BadInputError(f"download: roles are {', '.join(ROLES)}, not {', '.join(unknown) or 'none'}")
    committed = {record.shard for record in records}
    if shards is not None and (without := sorted(set(shards) - committed)):
        raise BadInputError(
            f"download: shard {without[0]} has no commit in {dataset.store.uri} ({len(without)} of those asked for)"
        )
    chosen = [record for record in records if shards is None or record.shard in shards]
    for record in chosen:
        for item in record.objects:
            if item.final_key != record.unit.final_key(dataset.record.name, item.role):
                raise BadInputError(
                    f"{dataset.store.uri}: commit {record.unit} names {item.final_key!r}, no name of its shard; "
                    "do not trust this dataset before `caprl verify` accepts it"
                )
    return chosen


def _refuse_other(folder: Path, dataset: Dataset) -> None:
    if (folder / DATASET).exists():
        here = open_dataset(Store(str(folder))).record
        if (here.fingerprint, here.plan_sha256) != (dataset.record.fingerprint, dataset.record.plan_sha256):
            raise BadInputError(f"{folder} holds another dataset, {here.name!r}; choose another folder")


def _plan(dataset: Dataset) -> Wanted:
    key = dataset.record.plan_key
    size = dataset.store.size(key)
    if size is None:
        raise StoreError(f"{dataset.store.uri}/{key}: the plan is missing; restore it from a backup or a download")
    return Wanted(key, key, size, dataset.record.plan_sha256)


def _superseded(folder: Path, dataset: Dataset, records: Sequence[CommitRecord]) -> tuple[str, ...]:
    """Published names in the folder that no current commit has: a glob over the folder would read both revisions."""
    wanted = {item.final_key for record in records for item in record.objects}
    prefix = f"{dataset.record.name}-"
    here = (f"{SHARDS}/{path.name}" for path in (folder / SHARDS).glob("*") if path.name.startswith(prefix))
    return tuple(sorted(set(here) - wanted))
