"""What a download folder knows of itself: which files were verified, so that a second run need not read them."""

import fcntl
import os
import threading
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import orjson

from caprl_core.errors import BadInputError

STATE = ".caprl-download.jsonl"
LOCK = ".caprl-download.lock"


class VerifiedFiles:
    """An append-only list of (path, size, mtime in ns, sha256); the last line of a path counts. Thread-safe.

    Only an optimisation: a file not listed, or changed since, is read and hashed again. Entering takes the folder's
    lock: two downloads into one folder would fight over the same partial files.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._guard = threading.Lock()
        self._known: dict[str, tuple[int, int, str]] = {}
        self._lock_file: IO[bytes] | None = None
        self._state: IO[bytes] | None = None

    def __enter__(self) -> Self:
        """Lock the folder and read the list. Raises `BadInputError` when another process holds the lock."""
        self._lock_file = (self._folder / LOCK).open("wb")
        try:
            fcntl.flock(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._lock_file.close()
            raise BadInputError(f"{self._folder}: another download into this folder is running") from error
        path = self._folder / STATE
        if path.exists():
            self._known = _read(path)
        # Written anew, so that repeated downloads do not let it grow and a torn last line is gone.
        fresh = path.with_name(f"{STATE}.part")
        fresh.write_bytes(b"".join(_line(name, *entry) for name, entry in self._known.items()))
        fresh.replace(path)
        self._state = path.open("ab", buffering=0)
        return self

    def holds(self, name: str, sha256: str) -> bool:
        """True when the file was verified to have this digest and has not been touched since."""
        with self._guard:
            entry = self._known.get(name)
        if entry is None or entry[2] != sha256:
            return False
        try:
            status = (self._folder / name).stat()
        except OSError:
            return False
        return (status.st_size, status.st_mtime_ns) == entry[:2]

    def add(self, name: str, sha256: str) -> None:
        """Remember that a file has just been verified."""
        status = (self._folder / name).stat()
        entry = (status.st_size, status.st_mtime_ns, sha256)
        with self._guard:
            self._known[name] = entry
            if self._state is not None:
                self._state.write(_line(name, *entry))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the lock back."""
        for file in (self._state, self._lock_file):
            if file is not None:
                file.close()


def _line(name: str, size: int, mtime_ns: int, sha256: str) -> bytes:
    entry = {"path": name, "size": size, "mtime_ns": mtime_ns, "sha256": sha256}
    return orjson.dumps(entry, option=orjson.OPT_APPEND_NEWLINE)


def _read(path: Path) -> dict[str, tuple[int, int, str]]:
    """Lines that cannot be read are forgotten: their files are hashed again."""
    known: dict[str, tuple[int, int, str]] = {}
    for line in path.read_bytes().splitlines():
        try:
            entry = orjson.loads(line)
            known[str(entry["path"])] = (int(entry["size"]), int(entry["mtime_ns"]), str(entry["sha256"]))
        except (ValueError, KeyError, TypeError):
            continue
    return known


def inside(folder: Path, name: str) -> Path:
    """The path of `name` below `folder`; `BadInputError` if it would lie elsewhere, also through a symbolic link."""
    parts = name.split("/")
    if "\0" in name or "\\" in name or any(part in ("", ".", "..") for part in parts):
        raise BadInputError(
            f"{name!r} is not a plain relative path; the commit record that names it is not to be trusted"
        )
    root = Path(os.path.realpath(folder))
    path = root.joinpath(*parts)
    if Path(os.path.realpath(path.parent)) != path.parent or path.is_symlink():
        raise BadInputError(f"{path} leads out of {root} through a symbolic link; remove the link")
    return path
