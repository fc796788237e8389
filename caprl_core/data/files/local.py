"""Files on local or mounted disks."""

import glob
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from caprl_core.data.files.errors import ObjectRefusedError, ObjectUnreadableError
from caprl_core.errors import BadInputError, ObjectMissingError


class LocalFiles:
    """Reads by path; see `Backend` for the meaning of each method."""

    def size(self, uri: str) -> int:
        """Bytes of the file."""
        try:
            status = Path(uri).stat()
        except OSError as error:
            raise _translated(uri, error) from error
        if not stat.S_ISREG(status.st_mode):
            raise BadInputError(f"{uri} is not a file: give a file, or a glob such as {uri.rstrip('/')}/*")
        return status.st_size

    def read(self, uri: str, start: int, stop: int) -> bytes:
        """Bytes `start` to `stop`, fewer at the end of the file."""
        try:
            with Path(uri).open("rb", buffering=0) as file:
                pieces: list[bytes] = []
                while start < stop and (piece := os.pread(file.fileno(), stop - start, start)):
                    pieces.append(piece)
                    start += len(piece)
        except OSError as error:
            raise _translated(uri, error) from error
        return b"".join(pieces)

    def glob(self, pattern: str) -> list[str]:
        """Files that match, sorted."""
        return sorted(path for path in glob.glob(pattern, recursive=True) if Path(path).is_file())  # noqa: PTH207

    def below(self, folder: str) -> Iterator[str]:
        """Relative paths of all files below, in the byte order of the whole path, which is also the order of S3.

        Links to folders are not followed: they can form loops and leave the folder.
        """
        pending = [("", True)]
        while pending:
            relative, is_folder = pending.pop()
            if not is_folder:
                yield relative
                continue
            try:
                with os.scandir(Path(folder) / relative) as entries:
                    names = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
            except OSError as error:
                raise BadInputError(f"{Path(folder) / relative}: cannot be listed ({error.strerror})") from error
            # A folder sorts as if its name ended with the slash, as it does inside a whole path.
            names.sort(key=lambda item: os.fsencode(item[0] + "/" * item[1]), reverse=True)
            prefix = f"{relative}/" if relative else ""
            pending.extend((prefix + name, inner) for name, inner in names)

    def holds_anything(self, folder: str) -> bool:
        """Whether the folder exists and is not empty (an empty one is what an unmounted mount point looks like)."""
        try:
            with os.scandir(folder) as entries:
                return next(iter(entries), None) is not None
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            raise BadInputError(f"{folder}: cannot be listed ({error.strerror}): is it still mounted?") from error

    def close(self) -> None:
        """Nothing is held."""


def _translated(uri: str, error: OSError) -> Exception:
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return ObjectMissingError(f"{uri} does not exist")
    if isinstance(error, PermissionError):
        return ObjectRefusedError(f"{uri}: permission denied")
    return ObjectUnreadableError(f"{uri}: {error.strerror or error}")
