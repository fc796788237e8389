"""Pictures leave the tars once, checked, whole or not at all, and an interrupted extraction goes on."""

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from caprl_core.errors import BadInputError, StoreError
from caprl_core.export import image_files
from caprl_core.export.image_files import ImagesReport, extract_images, image_name
from caprl_core.export.reading import Reading
from caprl_core.export.subsets import Division
from caprl_core.shards.dataset import Dataset
from support.made_datasets import made


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return made(tmp_path, str(tmp_path / "dataset"))


def extracted(dataset: Dataset, folder: Path, *, check: bool = False, samples: tuple[int, ...] = ()) -> ImagesReport:
    reading = Reading(dataset, division=Division(samples=samples), partial=False, threads=2)
    records = reading.current.records
    return extract_images(dataset.store, records, reading.shards(), folder, check=check, threads=3)


def pictures(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def originals(tmp_path: Path) -> set[bytes]:
    return {path.read_bytes() for path in (tmp_path / "pictures").iterdir() if path.name != "broken.jpg"}


def test_every_picture_is_its_original_bytes_under_its_digest(dataset: Dataset, tmp_path: Path) -> None:
    report = extracted(dataset, tmp_path / "out")
    found = pictures(tmp_path / "out")
    assert report.written == len(found) == 50 and set(found.values()) == originals(tmp_path)
    for name, data in found.items():
        digest = hashlib.sha256(data).hexdigest()
        assert name in (f"{digest[:3]}/{digest}.jpg", f"{digest[:3]}/{digest}.png")


def test_from_s3_they_are_the_same(tmp_path: Path, bucket: str) -> None:
    extracted(made(tmp_path, f"s3://{bucket}/drawn"), tmp_path / "out")
    assert set(pictures(tmp_path / "out").values()) == originals(tmp_path)


def test_what_is_there_is_not_written_again_and_what_is_damaged_is(dataset: Dataset, tmp_path: Path) -> None:
    extracted(dataset, tmp_path / "out")
    before = pictures(tmp_path / "out")
    names = sorted(before)
    (tmp_path / "out" / names[0]).unlink()
    (tmp_path / "out" / names[1]).write_bytes(before[names[1]][:-1])
    (tmp_path / "out" / names[2]).unlink()
    (tmp_path / "out" / names[2]).symlink_to(tmp_path / "pictures" / "broken.jpg")
    report = extracted(dataset, tmp_path / "out")
    assert (report.written, report.there) == (3, 47) and pictures(tmp_path / "out") == before
    flipped = b"\0" + before[names[3]][1:]
    (tmp_path / "out" / names[3]).write_bytes(flipped)
    assert extracted(dataset, tmp_path / "out").written == 0  # of the right size
    assert extracted(dataset, tmp_path / "out", check=True).written == 1
    assert pictures(tmp_path / "out") == before


def test_a_sample_brings_only_its_pictures_and_a_larger_one_the_rest(dataset: Dataset, tmp_path: Path) -> None:
    assert extracted(dataset, tmp_path / "out", samples=(10,)).written == 10
    report = extracted(dataset, tmp_path / "out", samples=(10, 30))
    assert (report.written, report.there) == (20, 10)


def test_a_full_disk_leaves_no_half_picture_and_the_next_run_goes_on(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = [0]
    replace = image_files.os.replace

    def fails_later(source: Path, target: Path) -> None:
        count[0] += 1
        if count[0] > 20:
            raise OSError(28, "No space left on device")
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(image_files.os, "replace", fails_later)
        with pytest.raises(OSError, match="No space left"):
            extracted(dataset, tmp_path / "out")
    assert len(pictures(tmp_path / "out")) == 20
    report = extracted(dataset, tmp_path / "out")
    assert (report.written, report.there) == (30, 20) and set(pictures(tmp_path / "out").values()) == originals(
        tmp_path
    )


KILLED = """
import os, signal, sys
from caprl_core.cli import main
from caprl_core.export import image_files
replace, count = os.replace, [0]
def dies_later(source, target):
    count[0] += 1
    if count[0] > 20:
        os.kill(os.getpid(), signal.SIGKILL)
    replace(source, target)
image_files.os.replace = dies_later
sys.argv = ["caprl", "export", *sys.argv[1:]]
main()
"""


def test_a_killed_export_leaves_whole_pictures_only_and_the_same_command_goes_on(
    dataset: Dataset, tmp_path: Path
) -> None:
    arguments = [dataset.store.uri, "--out", str(tmp_path / "out"), "--format", "llamafactory"]
    killed = subprocess.run([sys.executable, "-c", KILLED, *arguments], check=False, capture_output=True)
    assert killed.returncode == -9
    images = tmp_path / "out" / "images"
    left = list(images.glob("???/*"))
    assert len(left) == 20 and {path.read_bytes() for path in left} < originals(tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "caprl_core.cli", "export", *arguments], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert set(pictures(images).values()) == originals(tmp_path) and len(pictures(images)) == 50
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "dataset_info.json", "drawn.jsonl", "drawn.manifest.json", "images",
    ]  # fmt: skip


def test_a_link_out_of_the_folder_is_not_followed(dataset: Dataset, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    extracted(dataset, tmp_path / "first")
    (tmp_path / "out").mkdir()
    for path in (tmp_path / "first").iterdir():
        (tmp_path / "out" / path.name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BadInputError, match="symbolic link"):
        extracted(dataset, tmp_path / "out")
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"image_file": "../../x.png"},
        {"image_file": "x.exe"},
        {"member_sha256": "../" * 21 + "a"},
        {"image_file": "a/b.png"},
    ],
)
def test_names_that_no_packing_makes_are_refused(changes: dict) -> None:
    row = {"key": "k", "image_file": "k.png", "member_sha256": "a" * 64, "image_sha256": "a" * 64}
    assert image_name(row) == f"aaa/{'a' * 64}.png"
    with pytest.raises(BadInputError, match="is no row of this program"):
        image_name(row | changes)


def test_rows_without_pictures_say_so() -> None:
    with pytest.raises(BadInputError, match="keep no images"):
        image_name({"key": "k"})


def test_a_tar_that_is_cut_is_named(dataset: Dataset, tmp_path: Path) -> None:
    tar = tmp_path / "dataset" / "shards" / "drawn-000002.tar"
    tar.write_bytes(tar.read_bytes()[:2000])
    with pytest.raises(StoreError, match="drawn-000002.tar"):
        extracted(dataset, tmp_path / "out")
