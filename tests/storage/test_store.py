"""The object store behaves the same on a local folder and on a real S3 server."""

import contextlib
import errno
import os
import stat
import threading
from pathlib import Path

import pytest

from caprl_core.errors import BadInputError, ObjectExistsError, ObjectMissingError, StoreError
from caprl_core.recipe.models import StorageExecution
from caprl_core.storage.store import Store


@pytest.fixture(params=["local", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "local":
        return Store(str(tmp_path / "data"))
    return Store(f"s3://{request.getfixturevalue('bucket')}/some/prefix")


def test_what_is_put_is_read_back_and_replaced_whole(store: Store) -> None:
    store.put("a/b.txt", b"one")
    store.put("a/b.txt", b"two, longer")
    assert store.get("a/b.txt") == b"two, longer"
    assert store.size("a/b.txt") == 11


def test_a_create_never_replaces(store: Store) -> None:
    store.create("commits/1", b"first")
    with pytest.raises(ObjectExistsError, match="commits/1"):
        store.create("commits/1", b"second")
    assert store.get("commits/1") == b"first"


def test_one_of_many_racing_creates_wins(store: Store) -> None:
    def contend(key: str, number: int, start: threading.Barrier, winners: list[int]) -> None:
        start.wait()
        with contextlib.suppress(ObjectExistsError):
            store.create(key, str(number).encode())
            winners.append(number)

    for race in range(20):
        winners: list[int] = []
        start = threading.Barrier(8)
        threads = [threading.Thread(target=contend, args=(f"race/{race}", n, start, winners)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(winners) == 1
        assert store.get(f"race/{race}") == str(winners[0]).encode()


def test_missing_objects_have_no_size_and_cannot_be_read_or_copied(store: Store) -> None:
    assert store.size("nothing") is None
    with pytest.raises(ObjectMissingError, match="nothing"):
        store.get("nothing")
    with pytest.raises(ObjectMissingError):
        store.copy("nothing", "elsewhere")


def test_listing_is_complete_and_below_whole_path_segments_only(store: Store) -> None:
    for number in range(30):
        store.put(f"shards/{number:03d}", b"x" * number)
    store.put("shards-of-another/000", b"")
    found = {item.key: item.size for item in store.list("shards")}
    assert found == {f"shards/{number:03d}": number for number in range(30)}


def test_copies_and_deletions_are_idempotent(store: Store) -> None:
    store.put("from", b"bytes")
    store.copy("from", "deep/er/to")
    store.copy("from", "deep/er/to")
    assert store.get("deep/er/to") == b"bytes"
    store.delete(["from", "never-there"])
    store.delete(["from"])
    assert store.size("from") is None
    assert store.get("deep/er/to") == b"bytes"


def test_settling_needs_no_object_to_be_there(store: Store) -> None:
    store.put("a/b", b"bytes")
    store.settle(["a/b", "a/swept", "nowhere/at/all"])
    assert store.get("a/b") == b"bytes"


@pytest.mark.parametrize(
    ("folders", "number", "told"),
    [
        (False, errno.EIO, "a/b: Input/output error"),
        (True, errno.EIO, "a: Input/output error"),
        (True, errno.EINVAL, ""),
    ],
    ids=["a file", "a folder", "a file system that cannot do it to folders"],
)
def test_what_a_disk_cannot_keep_is_told_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folders: bool, number: int, told: str
) -> None:
    store = Store(str(tmp_path))
    store.put("a/b", b"bytes")

    def refuse(file: int) -> None:
        if stat.S_ISDIR(os.fstat(file).st_mode) == folders:
            raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(StoreError, match=told) if told else contextlib.nullcontext():
        store.settle(["a/b"])


def test_files_go_up_and_come_down_in_parts(store: Store, tmp_path: Path) -> None:
    content = bytes(range(256)) * 4096 * 70  # 73 MB: above the multipart limit
    path = tmp_path / "large"
    path.write_bytes(content)
    store.put_file("large", path)
    assert store.size("large") == len(content)
    assert b"".join(store.stream("large")) == content
    with store.open("large") as file:
        file.seek(1_000_000)
        assert file.read(10) == content[1_000_000:1_000_010]


def test_objects_too_large_for_one_copy_are_copied_in_parts(store: Store) -> None:
    content = bytes(range(256)) * 4096 * 35  # 37 MB: three parts
    store.put("from", content)
    store.copy("from", "to", size=len(content), copy_in_one=2**20)
    assert store.get("to") == content
    with pytest.raises(ObjectMissingError):
        store.copy("nothing", "elsewhere", size=len(content), copy_in_one=2**20)
    assert store.size("elsewhere") is None


def test_a_bucket_that_is_not_there_is_named(s3_endpoint: str) -> None:
    store = Store("s3://no-such-bucket-anywhere/x", StorageExecution(retries=0))
    with pytest.raises(StoreError, match="no-such-bucket-anywhere.*bucket does not exist"):
        store.put("key", b"")


def test_missing_credentials_are_said_in_words(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    with pytest.raises(BadInputError, match="AWS_ACCESS_KEY_ID"):
        Store("s3://bucket/prefix")


def test_other_schemes_are_refused() -> None:
    with pytest.raises(BadInputError, match="gs://bucket"):
        Store("gs://bucket/prefix")
