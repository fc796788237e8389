"""The commit record: the only thing readers trust. One conditional create decides which attempt is the shard."""

import logging
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from caprl_core.errors import ObjectExistsError, ObjectMissingError, StoreError
from caprl_core.storage.layout import COMMIT_CACHE, COMMITS, Unit, parse_commit_key
from caprl_core.storage.store import Store

logger = logging.getLogger(__name__)

COMMIT_SCHEMA_VERSION = 1
CACHE_AFTER = 200
"""Records read one by one until the cached copy is written again: at 400 reads/s this keeps `status` under a second."""


class CommittedObject(BaseModel):
    """One object of a commit: where the attempt put it, what it is published as, and its content."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    role: Literal["tar", "jsonl", "ledger"]
    attempt_key: str
    final_key: str
    size: int = Field(description="Bytes.")
    sha256: str


class Usage(BaseModel):
    """What a shard cost."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    prompt_tokens: int = 0
    completion_tokens: int = 0
    engine_s: float = Field(
        default=0.0,
        description="Seconds of engines, shared among overlapping shards; of all attempts, as far as they logged.",
    )
    wall_s: float = Field(default=0.0, description="Seconds from the attempt's start to its commit.")
    resumed: int = Field(default=0, description="Samples taken from the logs of earlier attempts.")


class CommitRecord(BaseModel):
    """A shard revision as readers see it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: int = COMMIT_SCHEMA_VERSION
    dataset: str
    stage: str
    fingerprint: str
    shard: int
    revision: int
    supersedes: int | None = Field(description="Revision this one replaces.")
    attempt: str
    samples: int = Field(description="Planned samples of the shard; rows + rejected.")
    rows: int
    rejected: int
    reasons: dict[str, int] = Field(description="Reason code -> rejected samples.")
    attempts: dict[str, int] = Field(description="Attempt number (text) -> rows that came from it.")
    objects: tuple[CommittedObject, ...]
    usage: Usage
    created: str = Field(description="ISO 8601, UTC.")

    @property
    def unit(self) -> Unit:
        """The shard revision."""
        return Unit(self.shard, self.revision)

    def object(self, role: str) -> CommittedObject:
        """The object of a role. Raises `StoreError` for a record without it."""
        for item in self.objects:
            if item.role == role:
                return item
        raise StoreError(f"commit {self.unit} names no {role}: it is no commit record of this program")

    def encode(self) -> bytes:
        """JSON with a stable field order."""
        return self.model_dump_json(indent=1).encode()


def commit(store: Store, record: CommitRecord) -> CommitRecord:
    """Publish an attempt by one conditional create; returns the record that won, which may be another attempt's.

    A create whose reply was lost is answered "exists" when retried, so the winner is told by the attempt id it names.
    After a power cut too a record never names bytes that were not on the disk yet.
    """
    store.settle(item.attempt_key for item in record.objects)
    try:
        store.create(record.unit.commit_key, record.encode())
        store.settle([record.unit.commit_key])
    except ObjectExistsError:
        return read_commit(store, record.unit)
    return record


def read_commit(store: Store, unit: Unit) -> CommitRecord:
    """The record of a unit. Raises `ObjectMissingError`, or `StoreError` if it is not a commit record."""
    record = _decode(store, unit.commit_key, store.get(unit.commit_key))
    if record.unit != unit:
        raise StoreError(f"{store.uri}/{unit.commit_key} is the record of {record.unit}: restore the right one")
    return record


def list_units(store: Store) -> list[Unit]:
    """Every committed unit, sorted, from one listing."""
    units = (parse_commit_key(item.key) for item in store.list(COMMITS))
    return sorted(unit for unit in units if unit is not None)


def latest_units(units: Iterable[Unit]) -> dict[int, Unit]:
    """Shard -> its newest committed revision."""
    return {unit.shard: unit for unit in sorted(units)}


def read_commits(
    store: Store, units: Iterable[Unit], *, threads: int = 32, use_cache: bool = True
) -> Iterator[CommitRecord]:
    """Records of many units, in the order given; most come from the cached copy, which is renewed when it lags.

    Without `use_cache` every record is read from its own object, and nothing is written: for those who prove something.
    """
    wanted = list(units)
    cached = _read_cache(store) if use_cache else {}
    missing = [unit for unit in wanted if unit not in cached]
    if missing:
        with ThreadPoolExecutor(threads) as pool:
            for record in pool.map(lambda unit: read_commit(store, unit), missing):
                cached[record.unit] = record
    if use_cache and len(missing) >= CACHE_AFTER:
        _write_cache(store, cached)
    for unit in wanted:
        yield cached[unit]


def _write_cache(store: Store, records: dict[Unit, CommitRecord]) -> None:
    """Advisory: who may only read the store reads the records one by one."""
    lines = (record.model_dump_json().encode() for _, record in sorted(records.items()))
    try:
        store.put(COMMIT_CACHE, b"\n".join(lines) + b"\n")
    except StoreError as error:
        logger.info("the copy of the commit records is not renewed: %s", error)


def _read_cache(store: Store) -> dict[Unit, CommitRecord]:
    """Commit records never change, so a cached one can be stale only by absence; an unreadable cache is no cache."""
    try:
        lines = store.get(COMMIT_CACHE).splitlines()
        records = [CommitRecord.model_validate_json(line) for line in lines]
    except (ObjectMissingError, ValidationError):
        return {}
    return {record.unit: record for record in records}


def _decode(store: Store, key: str, data: bytes) -> CommitRecord:
    try:
        return CommitRecord.model_validate_json(data)
    except ValidationError as error:
        raise StoreError(f"{store.uri}/{key} is not a commit record: {error.errors()[0]['msg']}") from error
