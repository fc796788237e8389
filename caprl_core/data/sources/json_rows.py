"""Rows of a JSON array or of JSON lines, streamed in flat memory, compressed or not."""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import ijson
import orjson

from caprl_core.data.files.reader import Files
from caprl_core.data.sources.streams import Counted, decompressed
from caprl_core.errors import BadInputError

LONGEST_LINE = 64 * 2**20
"""Bytes of one JSON line at most: a file without line ends must not be read into memory whole."""

_PARSE_BLOCK = 256 * 2**10
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class JsonRow:
    """One row: its object, or the problem that there is none; `where` names file and row for messages."""

    value: dict[str, Any]
    where: str
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class JsonLine:
    """One line: its value of any type, or the problem that it has none; `where` names file and line for messages."""

    value: Any
    where: str
    problem: str | None = None


def json_rows(files: Files, uri: str) -> Iterator[JsonRow]:
    """The rows of a file, an array or lines by its first character.

    Raises `BadInputError` where the file is cut, is not JSON or cannot be unpacked.
    """
    with decompressed(files, uri) as stream:
        start, skipped = first_character(stream)
        if start == b"[":
            yield from _array(stream, uri)
        elif start == b"{":
            yield from _lines(stream, uri, skipped)
        elif start:
            raise BadInputError(f"{uri}: begins with {start!r}: neither a JSON array nor JSON lines of objects")
        else:
            raise BadInputError(f"{uri}: the file is empty")


def json_lines(files: Files, uri: str) -> Iterator[JsonLine]:
    """The lines of a file whatever their values are; blank ones are passed over.

    Raises `BadInputError` where the file is cut or cannot be unpacked.
    """
    with decompressed(files, uri) as stream:
        _, skipped = first_character(stream)
        yield from _values(stream, uri, skipped)


def first_character(stream: io.BufferedReader) -> tuple[bytes, int]:
    """The first byte that means something, which stays in the stream, and how many were skipped before it."""
    skipped = len(stream.read(3)) if stream.peek(3)[:3] == _BOM else 0
    while (ahead := stream.peek(1)) and ahead[:1].isspace():
        skipped += len(stream.read(1))
    return ahead[:1], skipped


def _array(stream: io.BufferedReader, uri: str) -> Iterator[JsonRow]:
    counted = Counted(stream)
    number = 0
    try:
        items = ijson.items(counted, "item", buf_size=_PARSE_BLOCK, use_float=True)
        for number, item in enumerate(items, 1):
            where = f"{uri}: record {number}"
            if isinstance(item, dict):
                yield JsonRow(item, where)
            else:
                yield JsonRow({}, where, f"{where}: not an object but {type(item).__name__}")
    except (ijson.JSONError, UnicodeDecodeError) as error:
        cut = isinstance(error, ijson.IncompleteJSONError) and counted.at_end
        reason = "the file is cut" if cut else "the JSON is broken"
        raise BadInputError(
            f"{uri}: {reason} after {number} records, at or within {_PARSE_BLOCK} bytes before byte {counted.count} "
            f"({_one_line(error)}); fetch the file again or repair it"
        ) from error


def _lines(stream: io.BufferedReader, uri: str, position: int) -> Iterator[JsonRow]:
    for line in _values(stream, uri, position):
        if line.problem is not None:
            yield JsonRow({}, line.where, line.problem)
        elif isinstance(line.value, dict):
            yield JsonRow(line.value, line.where)
        else:
            yield JsonRow({}, line.where, f"{line.where}: not an object but {type(line.value).__name__}")


def _values(stream: io.BufferedReader, uri: str, position: int) -> Iterator[JsonLine]:
    number = 0
    while line := stream.readline(LONGEST_LINE + 1):
        number += 1
        where = f"{uri}: line {number} (byte {position})"
        if len(line) > LONGEST_LINE:
            raise BadInputError(f"{where}: longer than {LONGEST_LINE} bytes; is this JSON lines?")
        if number == 1 and line.strip() == b"{":
            raise BadInputError(f"{uri}: one object over several lines; a JSON array or one object a line is needed")
        position += len(line)
        if not line.strip():
            continue
        try:
            value = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            if not line.endswith(b"\n"):
                raise BadInputError(f"{where}: the file is cut inside this line; fetch the file again") from error
            yield JsonLine(None, where, f"{where}: not JSON ({error})")
            continue
        yield JsonLine(value, where)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
