"""Writes weights as safetensors, byte by byte from file to file: a model of any size passes through a few megabytes."""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from math import prod
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NamedTuple, Self

from caprl_core.errors import BadInputError
from caprl_core.pretraining.parts import Part
from caprl_core.pretraining.stored_tensors import DTYPES, INDEX, WEIGHTS, StoredTensor

SHARD_BYTES: Final = 5_000_000_000
"""Bytes of tensors in a file at most, as in the hub's models; a larger tensor has a file of its own."""
PIECE: Final = 16 << 20
"""Bytes read, converted, hashed and written at a time. A multiple of every type's size."""
_SIZES: Final = {"float32": 4, "float16": 2, "bfloat16": 2}


class WeightFiles(NamedTuple):
    """written: sha256 of each file by its name. read: sha256 of each source file that a tensor came from, whole.
    converted: tensors that had another data type."""

    written: dict[str, str]
    read: dict[Path, str]
    converted: int


def bytes_of(parts: Sequence[Part], dtype: str) -> int:
    """Bytes that the tensors take in `dtype` (torch's name)."""
    return sum(prod(part.shape) for part in parts) * _SIZES[dtype]


def write_weights(
    folder: Path,
    parts: Sequence[Part],
    dtype: str,
    tell: Callable[[str], None],
    *,
    shard_bytes: int = SHARD_BYTES,
) -> WeightFiles:
    """Write the tensors in their order as `dtype` (torch's name), with an index where one file is not enough.

    Each source file is read once from front to end, so its tensors must be neighbours in `parts`, in the order they lie
    in it. Tensors that have the type already keep every bit. Raises `BadInputError` for a source file that ends early,
    and for a number that becomes none in `dtype`.
    """
    shards = _shards(parts, dtype, shard_bytes)
    names = [WEIGHTS] if len(shards) == 1 else [_name(number, len(shards)) for number in range(1, len(shards) + 1)]
    written: dict[str, str] = {}
    with _Sources(tell) as sources:
        for name, shard in zip(names, shards, strict=True):
            digest = hashlib.sha256()
            with (folder / name).open("xb") as out:
                for data in _contents(shard, dtype, sources):
                    digest.update(data)
                    out.write(data)
                out.flush()
                os.fsync(out.fileno())
            written[name] = digest.hexdigest()
        read = sources.digests()
    if len(shards) > 1:
        places = {part.name: name for name, shard in zip(names, shards, strict=True) for part in shard}
        index = {"metadata": {"total_size": bytes_of(parts, dtype)}, "weight_map": dict(sorted(places.items()))}
        text = json.dumps(index, indent=2) + "\n"
        (folder / INDEX).write_text(text, encoding="utf-8")
        written[INDEX] = hashlib.sha256(text.encode()).hexdigest()
    converted = sum(isinstance(part.origin, StoredTensor) and part.origin.dtype != dtype for part in parts)
    return WeightFiles(written, read, converted)


def _name(number: int, count: int) -> str:
    return f"model-{number:05d}-of-{count:05d}.safetensors"


def _shards(parts: Sequence[Part], dtype: str, shard_bytes: int) -> list[list[Part]]:
    shards: list[list[Part]] = []
    room = 0
    for part in parts:
        size = bytes_of([part], dtype)
        if not shards or size > room:
            shards.append([])
            room = shard_bytes
        shards[-1].append(part)
        room -= size
    return shards


def _contents(shard: Sequence[Part], dtype: str, sources: "_Sources") -> Iterator[bytes | memoryview]:
    yield _header(shard, dtype)
    for part in shard:
        if isinstance(part.origin, bytes):
            yield part.origin
        elif part.origin.dtype == dtype:
            yield from sources.region(part.origin)
        else:
            yield from (_converted(data, part.origin, dtype) for data in sources.region(part.origin))


def _header(shard: Sequence[Part], dtype: str) -> bytes:
    """As the format has it: the header's length in 8 bytes, little-endian, and JSON padded with spaces."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}  # which transformers asks for
    place = 0
    for part in shard:
        end = place + bytes_of([part], dtype)
        header[part.name] = {"dtype": DTYPES[dtype], "shape": list(part.shape), "data_offsets": [place, end]}
        place = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _converted(data: memoryview, tensor: StoredTensor, dtype: str) -> bytes:
    import torch  # noqa: PLC0415 - seconds to import

    numbers = torch.frombuffer(data, dtype=getattr(torch, tensor.dtype)).to(getattr(torch, dtype))
    if not torch.isfinite(numbers).all():
        raise BadInputError(f"{tensor.file}: {tensor.stored_as} holds numbers that are none in {dtype}; try float32")
    return bytes(numbers.view(torch.uint8).numpy())


class _Reading:
    """A file that is read from front to end, and hashed meanwhile."""

    def __init__(self, path: Path, buffer: bytearray) -> None:
        self.path, self.at = path, 0
        self.file = path.open("rb", buffering=0)
        self._digest, self._buffer = hashlib.sha256(), buffer

    def read(self, length: int) -> Iterator[memoryview]:
        while length:
            piece = memoryview(self._buffer)[: min(PIECE, length)]
            filled = 0
            while filled < len(piece):
                count = self.file.readinto(piece[filled:])
                if not count:
                    raise BadInputError(
                        f"{self.path}: it ended {length - filled} bytes early; was it changed meanwhile?"
                    )
                filled += count
            self._digest.update(piece)
            self.at += len(piece)
            length -= len(piece)
            yield piece

    def finish(self) -> str:
        """sha256 of the whole file."""
        for _ in self.read(os.fstat(self.file.fileno()).st_size - self.at):
            pass
        return self._digest.hexdigest()


class _Sources:
    """The source files, one open at a time."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._digests: dict[Path, str] = {}
        self._now: _Reading | None = None
        self._buffer = bytearray(PIECE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._now is not None:
            self._now.file.close()

    def region(self, tensor: StoredTensor) -> Iterator[memoryview]:
        """The tensor's bytes, in pieces that are good until the next is asked for."""
        now = self._now
        if now is None or now.path != tensor.file or now.at > tensor.start:
            self._close()
            self._tell(f"reading {tensor.file}")
            now = self._now = _Reading(tensor.file, self._buffer)
        for _ in now.read(tensor.start - now.at):
            pass
        yield from now.read(tensor.length)

    def digests(self) -> dict[Path, str]:
        """sha256 of every file that was read, by its path."""
        self._close()
        return self._digests

    def _close(self) -> None:
        if self._now is not None:
            self._digests[self._now.path] = self._now.finish()
            self._now.file.close()
            self._now = None
