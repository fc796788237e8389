"""Packing: rows and image bytes become a tar, a JSONL and a ledger, byte for byte the same for the same rows.

The tar is written with the standard library's header encoder and hashed while it is written: one pass, no seek
(`bench/packing.py` compares it with `webdataset.ShardWriter`, which neither hashes nor fixes the clock).
"""

import hashlib
import io
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from caprl_core.data.row import LEDGER, Result, encode_line
from caprl_core.data.storable import storable
from caprl_core.shards.stage import Stage

_ZEROS = b"\0" * tarfile.RECORDSIZE
MODE = 0o444
"""Permission bits of every member; mtime, uid and gid are 0: a header depends on name and size alone."""


@dataclass(frozen=True, slots=True)
class PackedObject:
    """A packed file: its role in the commit, where it lies, bytes, hex digest."""

    role: str
    path: Path
    size: int
    sha256: str


class HashingWriter:
    """Counts and hashes what goes through to a file."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._hash = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes) -> None:
        """Pass on and account."""
        self._file.write(data)
        self._hash.update(data)
        self.size += len(data)

    @property
    def sha256(self) -> str:
        """Hex digest of everything written so far."""
        return self._hash.hexdigest()


class DeterministicTar:
    """A USTAR archive whose bytes depend only on the names and contents of its members, in order."""

    def __init__(self, out: HashingWriter) -> None:
        self._out = out

    def add(self, name: str, data: bytes) -> None:
        """Append a member: an ASCII name of at most 100 bytes, under 8 GiB. `ValueError` beyond these USTAR limits."""
        header = tarfile.TarInfo(name)
        header.size = len(data)
        header.mode = MODE
        self._out.write(header.tobuf(tarfile.USTAR_FORMAT))
        self._out.write(data)
        if rest := len(data) % tarfile.BLOCKSIZE:
            self._out.write(_ZEROS[: tarfile.BLOCKSIZE - rest])

    def close(self) -> None:
        """Two empty blocks, then zeros up to a whole record, as GNU tar and tarfile write."""
        self._out.write(_ZEROS[: 2 * tarfile.BLOCKSIZE])
        if rest := self._out.size % tarfile.RECORDSIZE:
            self._out.write(_ZEROS[: tarfile.RECORDSIZE - rest])


def pack(
    results: Sequence[Result], member: Callable[[Result], bytes], stage: Stage, folder: Path
) -> tuple[PackedObject, ...]:
    """Write a shard's three objects into a folder: `results` in plan order, `member` gives a row's image bytes."""
    rows = [result for result in results if result.row is not None]
    with (
        (folder / "data.tar").open("wb", buffering=1 << 20) as tar_file,
        (folder / "data.jsonl").open("wb") as jsonl_file,
    ):
        tar_out, jsonl_out = HashingWriter(tar_file), HashingWriter(jsonl_file)
        tar = DeterministicTar(tar_out)
        for result in rows:
            row: Any = result.row
            line = encode_line(row)
            if "image_file" in row:
                tar.add(row["image_file"], member(result))
            tar.add(f"{result.key}.json", line)
            tar.add(f"{result.key}.txt", storable(stage.text(row)).encode())
            jsonl_out.write(line)
        tar.close()
    ledger = ledger_bytes(results)
    (folder / "data.ledger.parquet").write_bytes(ledger)
    return (
        PackedObject("tar", folder / "data.tar", tar_out.size, tar_out.sha256),
        PackedObject("jsonl", folder / "data.jsonl", jsonl_out.size, jsonl_out.sha256),
        PackedObject("ledger", folder / "data.ledger.parquet", len(ledger), hashlib.sha256(ledger).hexdigest()),
    )


def ledger_bytes(results: Sequence[Result]) -> bytes:
    """The ledger as parquet: one line a planned sample, in plan order."""
    table = pa.Table.from_pylist([dict(result.ledger) for result in results], schema=LEDGER)
    out = io.BytesIO()
    pq.write_table(table, out, compression="zstd")
    return out.getvalue()
