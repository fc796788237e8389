"""A root that is a local or mounted folder."""

import errno
import os
import stat
from pathlib import Path

from caprl_core.data.files.local import LocalFiles
from caprl_core.data.files.retrying import retried
from caprl_core.data.roots.root import forbidden, missing, too_large, unreadable
from caprl_core.errors import BadInputError, StoreError

# What network file systems answer for a moment: EIO and ESTALE from NFS, ETIMEDOUT, EAGAIN.
_PASSING = {errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EAGAIN, errno.EINTR}
_ABSENT = {errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.EISDIR}
_RETRIES = 3
_RETRY_BUDGET_S = 10.0


class FolderRoot:
    """Files below one folder. Links are followed as long as they stay inside it."""

    def __init__(self, folder: str, what: str) -> None:
        """`what` names the root in messages."""
        self._folder = Path(folder)
        self._what = what
        self._real = Path(os.path.realpath(folder))
        self._require()

    def read(self, parts: tuple[str, ...], limit: int) -> bytes:
        """See `Root`."""
        path = self._folder.joinpath(*parts)
        try:
            return retried(
                lambda: self._read(path, limit),
                passing=lambda error: isinstance(error, OSError) and error.errno in _PASSING,
                retries=_RETRIES,
                budget_s=_RETRY_BUDGET_S,
            )
        except OSError as error:
            self._require()
            if error.errno in _ABSENT:
                raise missing(f"{path} does not exist") from error
            raise unreadable(f"{path}: {error.strerror}") from error

    def _read(self, path: Path, limit: int) -> bytes:
        # Without O_NONBLOCK a named pipe in the folder would block this thread for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with open(descriptor, "rb", buffering=0) as file:  # noqa: PTH123
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise missing(f"{path} is not a file")
            if not _real_path(descriptor, path).is_relative_to(self._real):
                raise forbidden(f"{path} is a link that leaves its root; give the link's target as a root of its own")
            if status.st_size > limit:
                raise too_large(str(path), limit, status.st_size)
            pieces: list[bytes] = []
            # One byte more than allowed: the file may be growing.
            left = limit + 1
            while left and (piece := file.read(min(left, status.st_size + 1))):
                pieces.append(piece)
                left -= len(piece)
        if not left:
            raise too_large(str(path), limit)
        return b"".join(pieces)

    def close(self) -> None:
        """Nothing is held."""

    def _require(self) -> None:
        """Raise when the folder itself is gone: cheap, and asked at the start and whenever a file is not readable."""
        try:
            there = LocalFiles().holds_anything(str(self._folder))
        except BadInputError as error:
            raise StoreError(f"{self._what}: {error}") from error
        if not there:
            raise BadInputError(f"{self._what}: the folder is absent or empty; mount the disk, or correct the path")


def _real_path(descriptor: int, path: Path) -> Path:
    """Where the opened file really lies. Asked of the open descriptor, so nobody can swap a link in between."""
    try:
        return Path(os.readlink(f"/proc/self/fd/{descriptor}"))  # noqa: PTH115
    except OSError:
        # No /proc (macOS): the path is resolved a second time.
        return Path(os.path.realpath(path))
