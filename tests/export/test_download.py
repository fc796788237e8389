"""A download is a verified copy: parallel, resumable, never a wrong byte, never a file outside its folder."""

import hashlib
import os
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caprl_core.errors import BadInputError
from caprl_core.export import fetching
from caprl_core.export.download import DownloadProgress, download
from caprl_core.export.fetching import StoppedError, Wanted, fetch
from caprl_core.export.jsonl import export_jsonl
from caprl_core.export.verified_files import LOCK, STATE, VerifiedFiles, inside
from caprl_core.shards.dataset import Dataset, open_dataset
from caprl_core.shards.verify import verify
from caprl_core.storage.commit import read_commit
from caprl_core.storage.layout import COMMIT_CACHE, Unit
from caprl_core.storage.store import Store
from support.made_datasets import made


@pytest.fixture
def dataset(tmp_path: Path, bucket: str) -> Dataset:
    return made(tmp_path, f"s3://{bucket}/drawn")


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name not in (STATE, LOCK)
    }


def test_the_copy_is_a_dataset_that_verifies_and_exports_like_the_original(dataset: Dataset, tmp_path: Path) -> None:
    report = download(dataset.store, tmp_path / "copy")
    assert report.complete and report.fetched == 10 and report.pending == 0  # the plan and three files of three shards
    copy = open_dataset(Store(str(tmp_path / "copy")))
    found = verify(copy, deep=True)
    assert found.sound and found.pending == 0 and found.rows == 50
    export_jsonl(copy, str(tmp_path / "a.jsonl"), form="full")
    export_jsonl(dataset, str(tmp_path / "b.jsonl"), form="full")
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "b.jsonl").read_bytes()


def test_nothing_but_finished_files_is_left_in_the_folder(dataset: Dataset, tmp_path: Path) -> None:
    download(dataset.store, tmp_path / "copy")
    assert not [name for name in contents(tmp_path / "copy") if name.endswith(".part")]


def test_a_second_run_fetches_and_rehashes_nothing(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = download(dataset.store, tmp_path / "copy")
    hashed: list[Path] = []
    original = fetching.digest_of
    monkeypatch.setattr("caprl_core.export.download.digest_of", lambda path: hashed.append(path) or original(path))
    second = download(dataset.store, tmp_path / "copy")
    assert (second.fetched, second.unchanged, second.bytes_fetched) == (0, first.fetched, 0)
    assert hashed == []


def test_a_touched_file_is_hashed_again_and_kept_when_it_is_right(dataset: Dataset, tmp_path: Path) -> None:
    download(dataset.store, tmp_path / "copy")
    os.utime(tmp_path / "copy" / "shards" / "drawn-000001.tar", (1, 1))
    assert download(dataset.store, tmp_path / "copy").fetched == 0


@pytest.mark.parametrize("damage", ["flipped", "cut", "longer", "gone"])
def test_a_damaged_file_is_fetched_again(dataset: Dataset, tmp_path: Path, damage: str) -> None:
    download(dataset.store, tmp_path / "copy")
    before = contents(tmp_path / "copy")
    path = tmp_path / "copy" / "shards" / "drawn-000001.tar"
    data = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes({"flipped": b"\x01" + data[1:], "cut": data[:-1], "longer": data + b"\0"}[damage])
    assert download(dataset.store, tmp_path / "copy").fetched == 1
    assert contents(tmp_path / "copy") == before


def test_a_lost_or_torn_state_file_costs_only_a_hash(dataset: Dataset, tmp_path: Path) -> None:
    download(dataset.store, tmp_path / "copy")
    state = tmp_path / "copy" / STATE
    state.write_bytes(b'{"path": 3}\nnot json\n' + state.read_bytes()[:-20])
    assert download(dataset.store, tmp_path / "copy").fetched == 0
    state.unlink()
    assert download(dataset.store, tmp_path / "copy").fetched == 0


def test_a_wrong_object_is_reported_and_no_file_of_it_is_left(dataset: Dataset, tmp_path: Path) -> None:
    item = read_commit(dataset.store, Unit(1, 0)).object("tar")
    data = dataset.store.get(item.final_key)
    dataset.store.put(item.final_key, data[:-1] + b"\x01")
    report = download(dataset.store, tmp_path / "copy")
    assert not report.complete and report.wrong == 1 and "does not have the sha256" in report.failures[0]
    names = contents(tmp_path / "copy")
    assert not [name for name in names if "000001.tar" in name]
    assert "commits/000001.r000.json" not in names and "commits/000002.r000.json" in names
    dataset.store.put(item.final_key, data)
    repaired = download(dataset.store, tmp_path / "copy")
    assert repaired.complete and repaired.fetched == 1


def test_a_missing_object_is_reported_and_the_rest_is_brought(dataset: Dataset, tmp_path: Path) -> None:
    dataset.store.delete(["shards/drawn-000000.jsonl"])
    report = download(dataset.store, tmp_path / "copy")
    assert (report.missing, report.wrong, report.fetched) == (1, 0, 9)


def test_only_the_roles_and_shards_asked_for_are_brought(dataset: Dataset, tmp_path: Path) -> None:
    download(dataset.store, tmp_path / "copy", roles=("jsonl",), shards=[2])
    assert [name for name in contents(tmp_path / "copy") if name.startswith("shards/")] == ["shards/drawn-000002.jsonl"]
    with pytest.raises(BadInputError, match="shard 7 has no commit"):
        download(dataset.store, tmp_path / "copy", shards=[1, 7])
    with pytest.raises(BadInputError, match="roles are tar, jsonl, ledger, not images"):
        download(dataset.store, tmp_path / "copy", roles=("images",))


def test_progress_ends_at_the_whole(dataset: Dataset, tmp_path: Path) -> None:
    seen: list[DownloadProgress] = []
    download(dataset.store, tmp_path / "copy", progress=seen.append)
    assert seen[-1].files == seen[-1].files_total and seen[-1].bytes == seen[-1].bytes_total
    again: list[DownloadProgress] = []
    download(dataset.store, tmp_path / "copy", progress=again.append)
    assert again[-1] == seen[-1]


def test_another_dataset_another_download_or_the_dataset_itself_are_refused(
    dataset: Dataset, tmp_path: Path, bucket: str
) -> None:
    download(dataset.store, tmp_path / "copy")
    other = made(tmp_path, f"s3://{bucket}/other", prompt__text="Something else entirely.")
    with pytest.raises(BadInputError, match="holds another dataset"):
        download(other.store, tmp_path / "copy")
    with pytest.raises(BadInputError, match="is the dataset itself"):
        download(Store(str(tmp_path / "copy")), tmp_path / "copy")
    with VerifiedFiles(tmp_path / "copy"), pytest.raises(BadInputError, match="another download"):
        download(dataset.store, tmp_path / "copy")


def test_a_partial_file_is_continued_where_it_ends(
    tmp_path: Path, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "RANGE_BYTES", 1000)
    store = Store(f"s3://{bucket}/x")
    data = os.urandom(9_500)
    store.put("object", data)
    wanted = Wanted("object", "object", len(data), hashlib.sha256(data).hexdigest())
    stop, received = threading.Event(), [0]

    def advanced(more: int, fresh: int) -> None:
        received[0] += fresh
        if fresh and received[0] == 4000:
            stop.set()

    with pytest.raises(StoppedError):
        fetch(store, wanted, tmp_path / "object", stop, advanced)
    assert not (tmp_path / "object").exists()
    stop.clear()
    fetch(store, wanted, tmp_path / "object", stop, advanced)
    assert (tmp_path / "object").read_bytes() == data and received[0] == len(data)
    assert [path.name for path in tmp_path.iterdir()] == ["object"]


def test_a_partial_file_with_wrong_bytes_is_started_again(tmp_path: Path, bucket: str) -> None:
    store = Store(f"s3://{bucket}/x")
    data = os.urandom(5_000)
    store.put("object", data)
    wanted = Wanted("object", "object", len(data), hashlib.sha256(data).hexdigest())
    (tmp_path / f".object.{wanted.sha256[:16]}.part").write_bytes(b"not those bytes")
    steps: list[int] = []
    fetch(store, wanted, tmp_path / "object", threading.Event(), lambda more, received: steps.append(more))
    assert (tmp_path / "object").read_bytes() == data and sum(steps) == len(data)


def test_a_commit_that_names_a_file_elsewhere_is_not_followed(dataset: Dataset, tmp_path: Path) -> None:
    record = read_commit(dataset.store, Unit(0, 0))
    for bad in ("../../outside.tar", "/etc/outside.tar", "dataset.json", "shards/drawn-000001.tar"):
        tar = record.object("tar").model_copy(update={"final_key": bad})
        changed = record.model_copy(update={"objects": (tar, *record.objects[1:])})
        dataset.store.put(record.unit.commit_key, changed.encode())
        with pytest.raises(BadInputError, match="no name of its shard"):
            download(dataset.store, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_a_link_out_of_the_folder_is_not_followed(dataset: Dataset, tmp_path: Path) -> None:
    (tmp_path / "copy").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "copy" / "shards").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BadInputError, match="symbolic link"):
        download(dataset.store, tmp_path / "copy")
    assert list((tmp_path / "elsewhere").iterdir()) == []


@given(
    parts=st.lists(st.sampled_from(["a", "b.tar", "..", ".", "", "c\\d", "e\0", "f g", "ü"]), min_size=1, max_size=5)
)
def test_no_name_leads_out_of_the_folder(tmp_path_factory: pytest.TempPathFactory, parts: list[str]) -> None:
    folder = tmp_path_factory.getbasetemp() / "inside"
    try:
        path = inside(folder, "/".join(parts))
    except BadInputError:
        assert set(parts) & {"..", ".", "", "c\\d", "e\0"}
    else:
        assert path == Path(os.path.realpath(folder)).joinpath(*parts) and ".." not in path.parts


def test_a_cached_copy_of_the_commit_records_is_not_believed(dataset: Dataset, tmp_path: Path) -> None:
    record = read_commit(dataset.store, Unit(0, 0))
    forged = record.model_copy(update={"rows": 7, "objects": record.objects[:1]})
    dataset.store.put(COMMIT_CACHE, forged.encode().replace(b"\n", b"") + b"\n")
    assert download(dataset.store, tmp_path / "copy").fetched == 10
    assert read_commit(Store(str(tmp_path / "copy")), Unit(0, 0)) == record


def test_files_of_a_superseded_revision_are_named(dataset: Dataset, tmp_path: Path) -> None:
    download(dataset.store, tmp_path / "copy")
    record = read_commit(dataset.store, Unit(0, 0))
    objects = tuple(
        item.model_copy(update={"final_key": Unit(0, 1).final_key("drawn", item.role)}) for item in record.objects
    )
    for old, new in zip(record.objects, objects, strict=True):
        dataset.store.copy(old.final_key, new.final_key)
    second = record.model_copy(update={"revision": 1, "supersedes": 0, "objects": objects})
    dataset.store.create(second.unit.commit_key, second.encode())
    report = download(dataset.store, tmp_path / "copy")
    assert report.fetched == 3
    assert report.superseded == tuple(sorted(item.final_key for item in record.objects))
