"""One way to read files wherever they lie, chosen by the scheme of the address."""

import io
from collections.abc import Callable, Iterator, Sequence
from threading import Lock
from typing import Protocol

from caprl_core.data.files import uris
from caprl_core.data.files.https import HttpsFiles
from caprl_core.data.files.local import LocalFiles
from caprl_core.data.files.s3 import S3Objects
from caprl_core.errors import BadInputError
from caprl_core.recipe.models import StorageExecution

STREAM_BLOCK = 8 * 2**20
"""Bytes fetched at a time while streaming a file: a request to S3 costs about 20 ms, so 8 MiB keeps it below 30 %."""


class Backend(Protocol):
    """How files are read in one kind of place.

    Every method raises `ObjectMissingError`, `ObjectRefusedError` or `ObjectUnreadableError` where only this file is to
    blame, `BadInputError` where the address or the credentials are, and `StoreError` where the place itself fails.
    """

    def size(self, uri: str) -> int: ...  # noqa: D102
    def read(self, uri: str, start: int, stop: int) -> bytes: ...  # noqa: D102
    def glob(self, pattern: str) -> list[str]: ...  # noqa: D102
    def below(self, folder: str) -> Iterator[str]: ...  # noqa: D102
    def holds_anything(self, folder: str) -> bool: ...  # noqa: D102
    def close(self) -> None: ...  # noqa: D102


class Files:
    """Reads local paths, `s3://` and `https://` addresses. Safe to share between threads."""

    def __init__(self, storage: StorageExecution) -> None:
        self._makers: dict[str, Callable[[], Backend]] = {
            "file": LocalFiles,
            "s3": lambda: S3Objects(storage),
            "https": lambda: HttpsFiles(storage),
            "http": lambda: HttpsFiles(storage),
        }
        self._backends: dict[str, Backend] = {}
        self._lock = Lock()

    def size(self, uri: str) -> int:
        """Bytes of a file."""
        return self._backend(uri).size(uri)

    def read(self, uri: str, start: int, stop: int) -> bytes:
        """Bytes `start` to `stop` of a file; fewer where it ends before."""
        return self._backend(uri).read(uri, start, stop)

    def open(self, uri: str, block: int = STREAM_BLOCK) -> io.BufferedReader:
        """The file as a seekable stream that fetches `block` bytes at a time."""
        return io.BufferedReader(_RangeFile(self._backend(uri), uri), buffer_size=block)

    def below(self, folder: str) -> Iterator[str]:
        """Relative paths of all files below a folder or prefix, in the byte order of the whole path, streamed."""
        return self._backend(folder).below(folder)

    def holds_anything(self, folder: str) -> bool:
        """Whether the folder or prefix exists and holds something; raises when its place does not answer."""
        return self._backend(folder).holds_anything(folder)

    def expand(self, uri: str, suffixes: Sequence[str]) -> list[str]:
        """The files an address stands for, in order: itself, a glob's or braces' matches, or a folder's by suffix.

        Raises `BadInputError` when there is none.
        """
        if not uris.is_pattern(uri):
            if uri.lower().endswith(tuple(suffixes)):
                return [uri]
            found = [uris.join(uri, name) for name in self.below(uri) if name.lower().endswith(tuple(suffixes))]
            if not found:
                raise BadInputError(f"{uri}: no file ending in {', '.join(suffixes)} below it")
            return found
        try:
            patterns = uris.expand_braces(uri)
        except ValueError as error:
            raise BadInputError(str(error)) from error
        names: list[str] = []
        for pattern in patterns:
            matches = self._backend(pattern).glob(pattern) if uris.is_pattern(pattern) else [pattern]
            if not matches:
                raise BadInputError(f"{pattern}: no file matches; check the pattern, and that the disk is mounted")
            names.extend(matches)
        return list(dict.fromkeys(names))

    def close(self) -> None:
        """Give back what the backends hold."""
        with self._lock:
            for backend in self._backends.values():
                backend.close()
            self._backends.clear()

    def _backend(self, uri: str) -> Backend:
        scheme = uris.scheme(uri)
        with self._lock:
            if scheme not in self._backends:
                if scheme not in self._makers:
                    raise BadInputError(f"{uri}: `{scheme}://` is not supported; use a path, s3:// or https://")
                self._backends[scheme] = self._makers[scheme]()
            return self._backends[scheme]


class _RangeFile(io.RawIOBase):
    """A file as Python knows it, over ranged reads."""

    def __init__(self, backend: Backend, uri: str) -> None:
        self._backend = backend
        self._uri = uri
        self._size = backend.size(uri)
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        origin = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(0, origin + offset)
        return self._position

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        wanted = min(len(buffer), max(0, self._size - self._position))
        data = self._backend.read(self._uri, self._position, self._position + wanted)
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)
