"""Pictures from the shards' tars into a folder: `<three hex digits>/<sha256>.<ext>`, each checked, written once.

A name is the content's own digest, so a picture that several rows or datasets share is one file, a file that is there
whole is the right one, and an interrupted extraction goes on where it was.
"""

import hashlib
import os
import re
import threading
from collections import deque
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from caprl_core.errors import BadInputError, StoreError
from caprl_core.export.features import IMAGE_COLUMNS
from caprl_core.export.fetching import digest_of
from caprl_core.export.reading import ExportRow, Progress
from caprl_core.export.tar_members import read_members
from caprl_core.shards.scratch import scratch_folder
from caprl_core.storage.commit import CommitRecord
from caprl_core.storage.store import Store

_SHA256 = re.compile(r"[0-9a-f]{64}")
_MEMBER = re.compile(rf"[a-z0-9_-]{{1,80}}\.(?:{'|'.join(IMAGE_COLUMNS)})")
"""What packing calls a picture: only such a name becomes part of a path."""


class ImagesReport(NamedTuple):
    """Pictures written, and pictures that were there; bytes written."""

    written: int
    there: int
    size: int


class _Picture(NamedTuple):
    """One picture that is not in the folder yet."""

    path: Path
    sha256: str


def image_name(row: dict[str, Any]) -> str:
    """The path of a row's picture below the folder, with slashes.

    Raises `BadInputError` for a row without a picture in its tar, or with values no packing makes.
    """
    if "image_file" not in row:
        raise BadInputError("--images: the tars of this dataset keep no images; take --image-root")
    digest, member = row["member_sha256"], row["image_file"]
    if not _SHA256.fullmatch(digest) or not _MEMBER.fullmatch(member):
        raise BadInputError(f"row {row['key']!r}: {member!r} with sha256 {digest!r} is no row of this program")
    return f"{digest[:3]}/{digest}.{member.rpartition('.')[2]}"


def extract_images(
    store: Store,
    records: Iterable[CommitRecord],
    rows: Iterable[list[ExportRow]],
    folder: Path,
    *,
    check: bool = False,
    threads: int = 8,
    progress: Progress = lambda _done, _total: None,
) -> ImagesReport:
    """Have the picture of every row in `folder`; `rows` are those of each record.

    A file that is there with the right size is taken for granted, or hashed if `check`. A tar is opened only when
    something of it is wanted. Memory: a shard's rows and `threads` pictures. `progress` is told pictures done and 0.

    Raises `StoreError` when a picture is not the one its row names, `BadInputError` for rows without pictures.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # In the folder, so that a rename suffices; what a killed run left half-written there the next one removes.
    with scratch_folder(str(folder)) as parts, ThreadPoolExecutor(threads, thread_name_prefix="caprl-pictures") as pool:
        work = _Extraction(store, folder, parts, check=check)
        waiting: deque[Future[None]] = deque()
        try:
            for record, shard in zip(records, rows, strict=True):
                if wanted := work.wanted(shard):
                    waiting.append(pool.submit(work.shard, record, wanted))
                while waiting and (waiting[0].done() or len(waiting) >= 2 * threads):
                    waiting.popleft().result()
                progress(work.written + work.there, 0)
            while waiting:
                waiting.popleft().result()
                progress(work.written + work.there, 0)
        finally:
            work.stop.set()
            pool.shutdown(cancel_futures=True)
    return ImagesReport(work.written, work.there, work.size)


class _Extraction:
    def __init__(self, store: Store, folder: Path, parts: Path, *, check: bool) -> None:
        self._store = store
        self._folder = folder
        self._parts = parts
        self._check = check
        self._guard = threading.Lock()
        self.stop = threading.Event()
        self.written = self.there = self.size = 0

    def wanted(self, shard: list[ExportRow]) -> dict[str, _Picture]:
        """Member name -> picture, of those that are not there."""
        found: dict[str, _Picture] = {}
        for item in shard:
            row = item.row
            path = self._folder / image_name(row)
            original = row["image_sha256"] == row["member_sha256"]
            if self._is_there(path, row["image_size"] if original else None, row["member_sha256"]):
                with self._guard:
                    self.there += 1
            else:
                found[row["image_file"]] = _Picture(path, row["member_sha256"])
        return found

    def _is_there(self, path: Path, size: int | None, sha256: str) -> bool:
        try:
            status = path.lstat()
        except OSError:
            return False
        if (size is not None and status.st_size != size) or not path.is_file() or path.is_symlink():
            return False
        return not self._check or digest_of(path) == sha256

    def shard(self, record: CommitRecord, wanted: dict[str, _Picture]) -> None:
        """Bring the pictures of one shard."""
        for picture, data in read_members(self._store, record, wanted):
            if self.stop.is_set():
                return
            if hashlib.sha256(data).hexdigest() != picture.sha256:
                raise StoreError(
                    f"{self._store.uri}/{record.object('tar').final_key}: a picture has not the sha256 of its row "
                    f"({picture.sha256[:16]}…); run `caprl verify`"
                )
            self._write(picture.path, data)
            with self._guard:
                self.written += 1
                self.size += len(data)

    def _write(self, path: Path, data: bytes) -> None:
        """Whole or not at all; two threads may bring the same picture."""
        path.parent.mkdir(exist_ok=True)
        if path.parent.is_symlink():
            raise BadInputError(f"{path.parent} leads out of {self._folder} through a symbolic link; remove the link")
        part = self._parts / f"{threading.get_ident()}-{path.name}"
        part.write_bytes(data)
        os.replace(part, path)  # noqa: PTH105
