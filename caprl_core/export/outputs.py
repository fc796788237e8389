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
    """A finished file: its name beside the manifest, rows, bytes and hex digest."""

    name: str
    rows: int
    size: int
    sha256: str


class Outputs:
    """A set of files that become visible together, as far as names allow. Use as a context manager.

    `out` is the address of the only file; with more than one they are called `<stem>-00000-of-00003<suffix>`.
    Leaving the block without `publish` leaves nothing behind.
    """

    def __init__(self, out: str, files: int, storage: StorageExecution | None, scratch: str | None) -> None:
        self._remote: Store | None = None
        self._scratch_root = scratch
        if out.startswith("s3://"):
            folder, _, name = out.rpartition("/")
            if folder.removeprefix("s3:/").count("/") < 1 or not name:
                raise BadInputError(f"{out}: name the file below the bucket, like s3://bucket/captions.jsonl")
            self._remote = Store(folder, storage)
            self._folder = Path()
        else:
            path = Path(out).expanduser()
            if path.is_dir() or out.endswith("/"):
                raise BadInputError(f"{out} is a folder; name the file, like {out.rstrip('/')}/captions.jsonl")
            name = path.name
            self._folder = path.absolute().parent
        self.manifest_name = f"{name}.manifest.json"
        shape = PurePosixPath(name)
        self._names = [
            name if files == 1 else f"{shape.stem}-{number:05d}-of-{files:05d}{shape.suffix}" for number in range(files)
        ]
        self._written: list[WrittenFile] = []
        self._open: _HashedFile | None = None
        self._cleanup = ExitStack()

    def __enter__(self) -> Self:
        """Make the scratch place: beside the target, so that a rename suffices, or a local folder for `s3://`."""
        parent = str(self._folder) if self._remote is None else self._scratch_root
        self._temporary = self._cleanup.enter_context(scratch_folder(parent))
        return self

    def write(self, line: bytes) -> None:
        """Append a line to the current file."""
        if self._open is None:
            self._open = _HashedFile(self._temporary / self._names[len(self._written)])
        self._open.write(line)

    def next_file(self) -> None:
        """Finish the current file, which may be empty; the next line goes to the next one."""
        current = self._open or _HashedFile(self._temporary / self._names[len(self._written)])
        self._written.append(current.close())
        self._open = None

    @property
    def written(self) -> tuple[WrittenFile, ...]:
        """The finished files, in order."""
        return tuple(self._written)

    def publish(self, manifest: bytes) -> None:
        """Give every file its final name, then the manifest. Raises `StoreError` or `OSError`."""
        if self._remote is None:
            (self._folder / self.manifest_name).unlink(missing_ok=True)
            for item in self._written:
                os.replace(self._temporary / item.name, self._folder / item.name)  # noqa: PTH105
            (self._temporary / self.manifest_name).write_bytes(manifest)
            (self._temporary / self.manifest_name).replace(self._folder / self.manifest_name)
            return
        self._remote.delete([self.manifest_name])
        for item in self._written:
            self._remote.put_file(item.name, self._temporary / item.name)
        self._remote.put(self.manifest_name, manifest)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove what was not published."""
        if self._open is not None:
            with suppress(OSError):  # a full disk, which `error` already tells of
                self._open.close()
        self._cleanup.close()


class _HashedFile:
    """Counts and hashes the lines that go through to a file."""

    def __init__(self, path: Path) -> None:
        self._name = path.name
        self._file: IO[bytes] = path.open("wb", buffering=1 << 20)
        self._hash = hashlib.sha256()
        self._rows = 0
        self._size = 0

    def write(self, line: bytes) -> None:
        self._file.write(line)
        self._hash.update(line)
        self._rows += 1
        self._size += len(line)

    def close(self) -> WrittenFile:
        self._file.close()
        return WrittenFile(self._name, self._rows, self._size, self._hash.hexdigest())
