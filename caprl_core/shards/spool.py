"""Scratch space of one shard attempt: the bytes of accepted images wait on local disk until the shard is packed."""

from pathlib import Path
from types import TracebackType
from typing import Self


class Spool:
    """An append-only local file with an index in memory (about 100 bytes a sample). Used from one thread at a time.

    Raises `OSError` when the disk is full; nothing is lost then, because the log is in the object store.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("w+b", buffering=1 << 20)
        self._index: dict[str, tuple[int, int]] = {}
        self._end = 0

    def add(self, key: str, data: bytes) -> None:
        """Keep the bytes of a sample; a second add for a key replaces the first."""
        self._file.seek(self._end)
        self._file.write(data)
        self._index[key] = (self._end, len(data))
        self._end += len(data)

    def read(self, key: str) -> bytes:
        """The bytes of a sample. Raises `KeyError`."""
        offset, length = self._index[key]
        self._file.seek(offset)
        return self._file.read(length)

    def __contains__(self, key: str) -> bool:
        """True when the bytes of this sample are here."""
        return key in self._index

    def __enter__(self) -> Self:
        """The spool itself; leaving closes the file."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file. A failing flush of bytes nobody will read (a full disk) must not hide the first error."""
        try:
            self._file.close()
        except OSError:
            if kind is None:
                raise
