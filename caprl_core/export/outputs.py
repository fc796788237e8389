"""Where an export is written: local files under temporary names, or local scratch put whole to `s3://`.

A file of an export is there whole or not at all, and a manifest always describes the files beside it: the old one is
removed before the first file is replaced, the new one is written last.
"""

import hashlib
import os
from contextlib import ExitStack, suppress
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import IO, NamedTuple, Self

from caprl_core.errors import BadInputError
from caprl_core.recipe.models import StorageExecution
from caprl_core.shards.scratch import scratch_folder
from caprl_core.storage.store import Store


class WrittenFile(NamedTuple):
    """A finished file: its name below the manifest's folder, rows, bytes and hex digest."""

    name: str
    rows: int
    size: int
    sha256: str


class Address(NamedTuple):
    """A folder, local or `s3://`, and the name of a file in it."""

    folder: str
    name: str


def file_address(out: str) -> Address:
    """`out` as the address of a file. Raises `BadInputError` for a folder, or a bucket alone."""
    if out.startswith("s3://"):
        folder, _, name = out.rpartition("/")
        if folder.removeprefix("s3:/").count("/") < 1 or not name:
            raise BadInputError(f"{out}: name the file below the bucket, like s3://bucket/captions.jsonl")
        return Address(folder, name)
    path = Path(out).expanduser()
    if path.is_dir() or out.endswith("/"):
        raise BadInputError(f"{out} is a folder; name the file, like {out.rstrip('/')}/captions.jsonl")
    return Address(str(path.absolute().parent), path.name)


def folder_address(out: str) -> str:
    """`out` as the address of a folder. Raises `BadInputError` when a file of that name is there."""
    if out.startswith("s3://"):
        return out.rstrip("/")
    path = Path(out).expanduser().absolute()
    if path.exists() and not path.is_dir():
        raise BadInputError(f"{out} is a file; this format is written into a folder of its own")
    return str(path)


def part_names(name: str, subset: str, files: int) -> list[str]:
    """`x.jsonl` -> `x-train-00000-of-00003.jsonl` …; without the subset where it has no name, whole where one file."""
    shape = PurePosixPath(name)
    stem = f"{shape.stem}-{subset}" if subset else shape.stem
    if files == 1:
        return [f"{stem}{shape.suffix}"]
    return [f"{stem}-{number:05d}-of-{files:05d}{shape.suffix}" for number in range(files)]


class OutputFile:
    """A file being written: counts and hashes what goes through. Good enough a file for parquet's writer."""

    def __init__(self, name: str, path: Path) -> None:
        self.name = name
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file: IO[bytes] = path.open("wb", buffering=1 << 20)
        self._hash = hashlib.sha256()
        self.rows = 0
        self._size = 0

    def write(self, data: bytes) -> int:
        """Append bytes; `rows` is the caller's to count."""
        self._file.write(data)
        self._hash.update(data)
        size = memoryview(data).nbytes
        self._size += size
        return size

    def tell(self) -> int:
        """Bytes so far."""
        return self._size

    def flush(self) -> None:
        """Hand on what is buffered."""
        self._file.flush()

    @property
    def closed(self) -> bool:
        """True when nothing can be written any more."""
        return self._file.closed

    def close(self) -> None:
        """Close the file. Raises `OSError` when the disk is full."""
        self._file.close()

    def finished(self) -> WrittenFile:
        """What it came to."""
        return WrittenFile(self.name, self.rows, self._size, self._hash.hexdigest())


class Outputs:
    """A set of files that become visible together, as far as names allow. Use as a context manager.

    `folder` is local or `s3://`; names may have folders in them. Leaving the block without `publish` leaves nothing
    behind.
    """

    def __init__(self, folder: str, manifest_name: str, storage: StorageExecution | None, scratch: str | None) -> None:
        self._remote = Store(folder, storage) if folder.startswith("s3://") else None
        self._folder = Path(folder)
        self._scratch_root = scratch
        self.manifest_name = manifest_name
        self._files: list[OutputFile] = []
        self._cleanup = ExitStack()

    def __enter__(self) -> Self:
        """Make the scratch place: beside the target, so that a rename suffices, or a local folder for `s3://`."""
        parent = str(self._folder) if self._remote is None else self._scratch_root
        self._temporary = self._cleanup.enter_context(scratch_folder(parent))
        return self

    @property
    def temporary(self) -> Path:
        """A local folder for files that do not leave; gone after the block."""
        return self._temporary / "work"

    def open(self, name: str) -> OutputFile:
        """Begin a file; files are told of in this order."""
        file = OutputFile(name, self._temporary / "out" / name)
        self._files.append(file)
        return file

    def add(self, name: str, data: bytes) -> None:
        """A whole small file without rows."""
        file = self.open(name)
        file.write(data)
        file.close()

    @property
    def written(self) -> tuple[WrittenFile, ...]:
        """The files that were opened, in order; to be asked when all are closed."""
        return tuple(file.finished() for file in self._files)

    def publish(self, manifest: bytes) -> None:
        """Give every file its final name, then the manifest. Raises `StoreError` or `OSError`."""
        if self._remote is None:
            (self._folder / self.manifest_name).unlink(missing_ok=True)
            for file in self._files:
                final = self._folder / file.name
                final.parent.mkdir(parents=True, exist_ok=True)
                os.replace(self._temporary / "out" / file.name, final)  # noqa: PTH105
            (self._temporary / self.manifest_name).write_bytes(manifest)
            (self._temporary / self.manifest_name).replace(self._folder / self.manifest_name)
            return
        self._remote.delete([self.manifest_name])
        for file in self._files:
            self._remote.put_file(file.name, self._temporary / "out" / file.name)
        self._remote.put(self.manifest_name, manifest)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove what was not published."""
        for file in self._files:
            with suppress(OSError):  # a full disk, which `error` already tells of
                file.close()
        self._cleanup.close()
