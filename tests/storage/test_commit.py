"""Commit records: read from their own objects or from a copy that is advisory in every respect."""

from pathlib import Path

import pytest

from caprl_core.errors import StoreError
from caprl_core.storage.commit import (
    CACHE_AFTER,
    CommitRecord,
    commit,
    list_units,
    read_commit,
    read_commits,
)
from caprl_core.storage.layout import COMMIT_CACHE, Unit, logged_samples, parse_commit_key
from caprl_core.storage.store import Store
from support.commit_records import commit_record


def record(shard: int, attempt: str = "a") -> CommitRecord:
    return commit_record(Unit(shard, 0), attempt=attempt)


def committed(store: Store, shards: int) -> list[Unit]:
    for shard in range(shards):
        commit(store, record(shard))
    return list_units(store)


def test_many_records_leave_a_copy_and_the_copy_spares_reads(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    units = committed(store, CACHE_AFTER)
    first = list(read_commits(store, units))
    assert [found.unit for found in first] == units
    assert store.size(COMMIT_CACHE)
    store.delete([unit.commit_key for unit in units])
    assert list(read_commits(store, units)) == first


def test_a_proof_reads_the_records_themselves_and_writes_nothing(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    units = committed(store, CACHE_AFTER)
    assert len(list(read_commits(store, units, use_cache=False))) == CACHE_AFTER
    assert store.size(COMMIT_CACHE) is None
    list(read_commits(store, units))
    store.put(units[3].commit_key, record(3, attempt="forged").encode())
    assert list(read_commits(store, units, use_cache=False))[3].attempt == "forged"


class ReadOnlyStore(Store):
    def put(self, key: str, data: bytes) -> None:
        raise StoreError(f"cannot put {key}: AccessDenied")


def test_who_may_only_read_can_read_many_records(tmp_path: Path) -> None:
    units = committed(Store(str(tmp_path)), CACHE_AFTER)
    assert len(list(read_commits(ReadOnlyStore(str(tmp_path)), units))) == CACHE_AFTER


def test_a_record_under_the_name_of_another_is_refused(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    store.create(Unit(5, 0).commit_key, record(4).encode())
    with pytest.raises(StoreError, match=r"000005\.r000.json is the record of 000004\.r000"):
        read_commit(store, Unit(5, 0))


def test_a_record_without_an_object_says_so() -> None:
    with pytest.raises(StoreError, match="names no tar"):
        record(0).object("tar")


@pytest.mark.parametrize(
    "key", ["commits/7.r0.json", "commits/0000007.r000.json", "commits/.DS_Store", "commits/000007.r000.json.bak"]
)
def test_only_the_one_name_of_a_unit_is_a_commit(key: str) -> None:
    assert parse_commit_key(key) is None
    assert parse_commit_key(Unit(7, 0).commit_key) == Unit(7, 0)


def test_stray_files_beside_a_log_count_for_nothing() -> None:
    assert logged_samples("attempts/000000.r000/0-a/log/000001-0000012.jsonl") == 12
    assert logged_samples("attempts/000000.r000/0-a/log/.DS_Store") == 0
    assert logged_samples("attempts/000000.r000/0-a/data.tar") == 0
