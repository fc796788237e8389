"""The part of the proof that reads tars: every member is where and what its row says, and no other is there."""

import hashlib
import io
import tarfile
from collections.abc import Iterator, Sequence
from typing import IO, Any, NamedTuple

import orjson


class TarredRow(NamedTuple):
    """What of a row is compared with the tar."""

    key: str
    attempt: int
    image_file: str | None
    member_sha256: str | None
    line_sha256: bytes


def tarred_row(line: bytes) -> TarredRow:
    """From a line of the JSONL, newline included."""
    row = orjson.loads(line)
    image_file, member_sha256 = row.get("image_file"), row.get("member_sha256")
    return TarredRow(row["key"], row["attempt"], image_file, member_sha256, hashlib.sha256(line).digest())


class _HashingReader(io.RawIOBase):
    """Hashes what is read, so that one pass gives members and digest."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.hash = hashlib.sha256()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        self.hash.update(data)
        return len(data)


def tar_problems(where: str, file: IO[bytes], rows: Sequence[TarredRow], sha256: str) -> list[str]:
    """What is wrong with a tar of these rows, from one pass over its bytes."""
    raw = _HashingReader(file)
    reader = io.BufferedReader(raw, 1 << 20)
    try:
        problems = list(_member_problems(where, reader, rows))
    except (tarfile.TarError, EOFError) as error:
        problems = [f"{where}: the tar cannot be read: {error}"]
    while reader.read(1 << 20):
        pass
    if raw.hash.hexdigest() != sha256:
        problems.insert(0, f"{where}: the tar does not have the committed sha256")
    return problems


def _member_problems(where: str, reader: IO[bytes], rows: Sequence[TarredRow]) -> Iterator[str]:
    with tarfile.open(fileobj=reader, mode="r|") as tar:
        members = ((item.name, tar.extractfile(item)) for item in tar)
        for row in rows:
            names = [] if row.image_file is None else [row.image_file]
            for name in (*names, f"{row.key}.json", f"{row.key}.txt"):
                found, content = next(members, (None, None))
                if found != name or content is None:
                    yield f"{where}: the tar has {found} where {name} should be"
                    return
                digest = hashlib.sha256(content.read())
                if name == row.image_file and digest.hexdigest() != row.member_sha256:
                    yield f"{where}: {name} in the tar does not have the sha256 of its row"
                elif name == f"{row.key}.json" and digest.digest() != row.line_sha256:
                    yield f"{where}: {name} in the tar is not the row of the JSONL"
        if (extra := next(members, None)) is not None:
            yield f"{where}: the tar has a member that no row names: {extra[0]}"
