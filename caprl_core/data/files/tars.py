"""Members of a tar found by hopping from header to header, so that their bytes can be read in place."""

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from caprl_core.errors import BadInputError

BLOCK = 512
MOST_HEADER_BYTES = 2**20
"""Bytes of an extended header at most: real ones hold a path, hostile ones claim gigabytes."""

HOP_BLOCK = 128 * 2**10
"""Bytes fetched at a header while hopping: small members (.txt, .json) come along in the same request."""


@dataclass(frozen=True, slots=True)
class TarMember:
    """A regular file in a tar: its name as stored, and where its bytes lie in the container."""

    name: str
    offset: int
    size: int


def tar_members(stream: BinaryIO, uri: str, length: int) -> Iterator[TarMember]:
    """Regular members in stored order; links, folders, devices and sparse files are passed over.

    Raises `BadInputError` with the byte offset where the tar is cut, compressed or damaged.
    """
    position = 0
    longer: dict[str, str] = {}
    for_all: dict[str, str] = {}
    while True:
        header = _header(stream, uri, position, length)
        if header is None:
            return
        fields = for_all | longer
        is_extension = header.type in (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.XGLTYPE, *_GNU_LONG)
        size = header.size if is_extension else _size(fields, header, uri, position)
        has_data = header.isreg() or header.type not in tarfile.SUPPORTED_TYPES or is_extension
        start = position + BLOCK
        end = start + size if has_data else start
        if end > length:
            raise _damaged(
                uri, position, f"member {header.name!r} needs {end} bytes and the file has {length}: it is cut"
            )
        if is_extension:
            if size > MOST_HEADER_BYTES:
                raise _damaged(uri, position, f"an extended header of {size} bytes")
            stream.seek(start)
            _extend(header.type, stream.read(size), longer, for_all)
        else:
            sparse = header.type == tarfile.GNUTYPE_SPARSE or any(key.startswith("GNU.sparse.") for key in fields)
            if header.isreg() and not sparse:
                yield TarMember(fields.get("path", header.name), start, size)
            longer.clear()
        position = start + -(-(end - start) // BLOCK) * BLOCK


_GNU_LONG = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)


def _header(stream: BinaryIO, uri: str, position: int, length: int) -> tarfile.TarInfo | None:
    """The header at `position`, or None at the end mark."""
    stream.seek(position)
    block = stream.read(BLOCK)
    if len(block) < BLOCK:
        raise _damaged(uri, position, f"the file ends at byte {length} without the end mark: it is cut")
    try:
        return tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
        return None
    except tarfile.HeaderError as error:
        if position == 0:
            raise BadInputError(
                f"{uri}: not a tar ({error}); a compressed one must be unpacked to a plain .tar"
            ) from error
        raise _damaged(uri, position, str(error)) from error


def _size(fields: dict[str, str], header: tarfile.TarInfo, uri: str, position: int) -> int:
    try:
        size = int(fields.get("size", header.size))
    except ValueError as error:
        raise _damaged(uri, position, "a size that is no number") from error
    if size < 0:
        raise _damaged(uri, position, "a negative size")
    return size


def _extend(kind: bytes, data: bytes, longer: dict[str, str], for_all: dict[str, str]) -> None:
    """Take over what an extended header says about the next member, or about all that follow."""
    if kind == tarfile.GNUTYPE_LONGNAME:
        longer["path"] = data.partition(b"\0")[0].decode("utf-8", "surrogateescape")
    elif kind != tarfile.GNUTYPE_LONGLINK:
        (for_all if kind == tarfile.XGLTYPE else longer).update(_pax_fields(data))


def _pax_fields(data: bytes) -> dict[str, str]:
    """`<length> <key>=<value>\\n` records (POSIX.1-2001); a malformed one ends the list."""
    fields: dict[str, str] = {}
    while data:
        digits, space, _ = data.partition(b" ")
        if not space or not digits.isdigit() or len(digits) > 7:
            break
        length = int(digits)
        record, data = data[len(digits) + 1 : length], data[length:]
        key, equals, value = record.removesuffix(b"\n").partition(b"=")
        if not equals or length <= len(digits):
            break
        fields[key.decode("utf-8", "surrogateescape")] = value.decode("utf-8", "surrogateescape")
    return fields


def _damaged(uri: str, position: int, what: str) -> BadInputError:
    return BadInputError(f"{uri}: damaged at byte {position}: {what}; fetch or build the tar again")
