"""Members of a zip, found in its directory and read in place."""

import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator

from caprl_core.data.files.reader import Files
from caprl_core.data.roots.member_index import Place
from caprl_core.data.roots.root import too_large, unreadable
from caprl_core.errors import BadInputError

_LOCAL_HEADER = struct.Struct("<4s5H3L2H")  # APPNOTE.TXT 4.3.7
_LOCAL_MAGIC = b"PK\3\4"
_ENCRYPTED = 0x1
_STORED, _DEFLATED = 0, 8
_NAMES_ROOM = 1024
"""Bytes asked for beside the data, for a member's local name and extra field; more is fetched where they are longer."""

_DIRECTORY_BLOCK = 2**20


def zip_members(files: Files, uri: str) -> Iterator[tuple[str, Place]]:
    """Names and places of all regular members. Raises `BadInputError` when the directory cannot be read."""
    try:
        with files.open(uri, _DIRECTORY_BLOCK) as stream, zipfile.ZipFile(stream) as archive:
            for info in archive.infolist():
                mode = info.external_attr >> 16
                # A link's data is a path, not an image; modes are only there when a Unix wrote the zip.
                if not info.is_dir() and (stat.S_IFMT(mode) in (0, stat.S_IFREG)):
                    yield info.filename, Place(info.header_offset, info.compress_size, info.CRC)
    # zipfile raises a kind of RuntimeError for a format version or feature that it does not know.
    except (zipfile.BadZipFile, struct.error, RuntimeError, ValueError) as error:
        raise BadInputError(f"{uri}: not a readable zip ({error}); it is cut or damaged: fetch it again") from error


def read_member(files: Files, uri: str, name: str, place: Place, limit: int) -> bytes:
    """The content of one member, `limit` bytes at most, checked against its CRC-32.

    Raises `SampleFailedError` when it is larger, encrypted, damaged or packed by an unusual method.
    """
    what = f"{uri}#{name}"
    # Deflate never adds more than 5 bytes to 16 KiB, so larger data means a larger image.
    if place.size > limit + limit // 1024 + 64:
        raise too_large(what, limit, place.size)
    header = _LOCAL_HEADER.size
    data = files.read(uri, place.offset, place.offset + header + _NAMES_ROOM + place.size)
    if len(data) < header or not data.startswith(_LOCAL_MAGIC):
        raise unreadable(f"{what}: no member at byte {place.offset}; the zip is damaged")
    fields = _LOCAL_HEADER.unpack_from(data)
    flags, method, name_length, extra_length = fields[2], fields[3], fields[9], fields[10]
    start = header + name_length + extra_length
    if len(data) < start + place.size:
        data = files.read(uri, place.offset, place.offset + start + place.size)
    packed = memoryview(data)[start : start + place.size]
    if flags & _ENCRYPTED:
        raise unreadable(f"{what}: encrypted")
    content = _unpacked(packed, method, what, limit)
    if len(content) > limit:
        raise too_large(what, limit)
    if zlib.crc32(content) != place.crc:
        raise unreadable(f"{what}: the checksum is wrong; the zip is damaged")
    return content


def _unpacked(packed: memoryview, method: int, what: str, limit: int) -> bytes:
    if method == _STORED:
        return bytes(packed)
    if method != _DEFLATED:
        raise unreadable(f"{what}: packed by method {method}; only stored and deflated members are read")
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        # Never more than one byte over the limit, whatever a bomb claims.
        content = inflater.decompress(packed, limit + 1)
    except zlib.error as error:
        raise unreadable(f"{what}: {error}; the zip is damaged") from error
    if len(content) <= limit and not inflater.eof:
        raise unreadable(f"{what}: its data end early; the zip is damaged")
    return content
