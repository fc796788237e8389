"""Whatever a dataset writes as a path, no byte outside the root is ever read."""

import io
import os
import tarfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from caprl_core.data.files.paths import UnsafePathError, safe_parts
from caprl_core.data.files.reader import Files
from caprl_core.data.reasons import Reason
from caprl_core.data.roots.archives import ArchiveRoot
from caprl_core.data.roots.folder import FolderRoot
from caprl_core.errors import SampleFailedError
from caprl_core.recipe.models import StorageExecution

PIECES = st.sampled_from(
    ["..", ".", "", "a", "b", "c.jpg", "/", "\\", "\0", "~", "%2e%2e", "link", "out.jpg", "\ud800", "..."]
)
PATHS = st.lists(PIECES, max_size=8).map("/".join) | st.text(max_size=30)


@given(path=PATHS)
@example(path="a/../../out.jpg")
@example(path="/etc/passwd")
@example(path="file:///etc/passwd")
def test_safe_parts_stay_below_any_folder(path):
    try:
        parts = safe_parts(path)
    except UnsafePathError:
        return
    joined = os.path.normpath("/data/folder/" + "/".join(parts))
    assert joined.startswith("/data/folder/")
    assert not any(part in ("", ".", "..") or "/" in part or "\\" in part or "\0" in part for part in parts)


@pytest.fixture
def root(tmp_path: Path) -> FolderRoot:
    """A folder beside a secret, with links to inside and to outside."""
    folder = tmp_path / "root"
    (folder / "a").mkdir(parents=True)
    (folder / "a" / "c.jpg").write_bytes(b"inside")
    (tmp_path / "out.jpg").write_bytes(b"SECRET")
    (tmp_path / "root-beside").mkdir()
    (tmp_path / "root-beside" / "c.jpg").write_bytes(b"SECRET")
    (folder / "link").symlink_to(tmp_path)
    (folder / "beside").symlink_to(tmp_path / "root-beside")
    (folder / "link.jpg").symlink_to("../out.jpg")
    (folder / "within.jpg").symlink_to("a/c.jpg")
    (folder / "loop.jpg").symlink_to("loop.jpg")
    os.mkfifo(folder / "pipe.jpg")
    return FolderRoot(str(folder), "the root")


@given(path=PATHS)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_path_reads_outside_the_folder(root, path):
    try:
        data = root.read(safe_parts(path), 100)
    except (UnsafePathError, SampleFailedError):
        return
    assert data == b"inside"


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("link.jpg", Reason.IMAGE_FORBIDDEN),
        ("link/out.jpg", Reason.IMAGE_FORBIDDEN),
        ("beside/c.jpg", Reason.IMAGE_FORBIDDEN),
        ("loop.jpg", Reason.IMAGE_UNREADABLE),
        ("pipe.jpg", Reason.IMAGE_MISSING),
        ("a", Reason.IMAGE_MISSING),
        ("a/c.jpg/d.jpg", Reason.IMAGE_MISSING),
        ("n" * 300 + ".jpg", Reason.IMAGE_MISSING),
    ],
)
def test_links_that_leave_and_things_that_are_no_files_are_told_apart(root, path, reason):
    with pytest.raises(SampleFailedError) as caught:
        root.read(safe_parts(path), 100)
    assert caught.value.reason == reason


def test_a_link_inside_the_folder_and_a_linked_root_are_followed(root, tmp_path):
    assert root.read(("within.jpg",), 100) == b"inside"
    (tmp_path / "alias").symlink_to(tmp_path / "root")
    assert FolderRoot(str(tmp_path / "alias"), "alias").read(("a", "c.jpg"), 100) == b"inside"


@pytest.mark.parametrize(
    "image", ["../out.jpg", "/etc/passwd", "a\\b.jpg", "a\0.jpg", "s3://b/k", "file:///etc/passwd", "http://x/y", ""]
)
async def test_the_reader_forbids_such_paths_for_every_kind_of_root(image, place, open_reader):
    place.put("x/1.jpg", b"x")
    for root in (f"{place.uri}/x", "https://example.org/x"):
        with pytest.raises(SampleFailedError) as caught:
            await open_reader("table", "t.csv", roots={"": root})(image)
        assert caught.value.reason == Reason.IMAGE_FORBIDDEN


def hostile_zip() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name in ("../up.jpg", "/abs.jpg", "d/../../e.jpg", "back\\slash.jpg"):
            archive.writestr(name, b"SECRET")
        link = zipfile.ZipInfo("link.jpg")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
        archive.writestr("good.jpg", b"good")
    return out.getvalue()


def hostile_tar() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name in ("../up.jpg", "/abs.jpg", "d/../../e.jpg", "back\\slash.jpg"):
            info = tarfile.TarInfo(name)
            info.size = 6
            archive.addfile(info, io.BytesIO(b"SECRET"))
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE):
            info = tarfile.TarInfo("link.jpg")
            info.type, info.linkname = kind, "/etc/passwd"
            archive.addfile(info)
        info = tarfile.TarInfo("good.jpg")
        info.size = 4
        archive.addfile(info, io.BytesIO(b"good"))
    return out.getvalue()


@pytest.mark.parametrize(("name", "data"), [("h.zip", hostile_zip()), ("h.tar", hostile_tar())])
def test_members_with_hostile_names_and_links_are_not_there(tmp_path, name, data):
    (tmp_path / name).write_bytes(data)
    root = ArchiveRoot(Files(StorageExecution()), str(tmp_path / name), "archive")
    assert root.read(("good.jpg",), 100) == b"good"
    for member in ("up.jpg", "abs.jpg", "e.jpg", "slash.jpg", "link.jpg"):
        with pytest.raises(SampleFailedError) as caught:
            root.read((member,), 100)
        assert caught.value.reason == Reason.IMAGE_MISSING
    root.close()
