"""Streams under the parsers: unpacked by the file's suffix, and counted."""

import io
from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa

from caprl_core.data.files.reader import Files
from caprl_core.errors import BadInputError

_CODECS = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2"}
_UNPACK_BLOCK = 2**20


@contextmanager
def decompressed(files: Files, uri: str) -> Iterator[io.BufferedReader]:
    """The file's content as a forward-only stream; `.gz`, `.zst` and `.bz2` are unpacked on the way.

    Raises `BadInputError` when the packed data are damaged or cut.
    """
    codec = next((codec for suffix, codec in _CODECS.items() if uri.lower().endswith(suffix)), None)
    with files.open(uri) as packed:
        if codec is None:
            yield packed
            return
        try:
            unpacked = pa.CompressedInputStream(pa.PythonFile(packed, mode="r"), codec)
            with io.BufferedReader(unpacked, buffer_size=_UNPACK_BLOCK) as stream:
                yield stream
        except (OSError, pa.ArrowException) as error:
            raise BadInputError(f"{uri}: cannot be unpacked ({error}); it is damaged or cut: fetch it again") from error


def plain_name(uri: str) -> str:
    """The address in lower case without the suffix of the compression, to tell the format by."""
    name = uri.lower()
    return next((name[: -len(suffix)] for suffix in _CODECS if name.endswith(suffix)), name)


class Counted:
    """A stream for ijson that knows how many bytes were read from it."""

    def __init__(self, stream: io.BufferedReader) -> None:
        self._stream = stream
        self.count = 0
        self.at_end = False

    def read(self, size: int = -1) -> bytes:
        """Up to `size` bytes."""
        data = self._stream.read(size)
        self.count += len(data)
        self.at_end = self.at_end or (size != 0 and not data)
        return data
