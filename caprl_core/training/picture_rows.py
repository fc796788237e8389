"""The rows of a question set that can be used: the picture is there, can be decoded, and is the only one of its key."""

import asyncio
import hashlib
from collections import Counter, defaultdict
from collections.abc import Container, Iterable, Iterator
from typing import Any

import pyarrow as pa

from caprl_core.data.decode_pool import DecodePool
from caprl_core.data.files.reader import Files
from caprl_core.data.sources import parquet
from caprl_core.data.sources.hf_parquet import image_column
from caprl_core.errors import SampleFailedError
from caprl_core.recipe.models import ImageRecipe
from caprl_core.recipe.training import TrainingRecipe

DECODE_TIMEOUT_S, DECODE_MEMORY_MB = 30.0, 4096
"""What one picture may take: the defaults of the captioning lanes."""
_READ_TOGETHER = 64
"""Rows: their pictures may have megabytes each."""
_CHECKED_TOGETHER = 1024
_PARQUET = (".parquet",)

Rows = Iterator[tuple[str, bytes]]
"""Key and image file."""


def picture_rows(recipe: TrainingRecipe, uri: str, keys: Container[str], refused: list[str]) -> Rows:
    """The rows of these keys, in order of the files, each key once; what cannot be used goes to `refused`.

    A key of several different pictures is not used at all, as nobody can tell which of them a question is about.
    Raises `BadInputError` for files that cannot be read or have no column of images.
    """
    files = Files(recipe.execution.storage)
    try:
        uris = files.expand(uri, _PARQUET)
        often = {
            key for key, count in Counter(key for key, _ in _read(files, uris, pictures=False)).items() if count > 1
        }
        unclear = _of_several_pictures(_read(files, uris, pictures=True), often) if often else set()
        refused += [f"{uri}: {key}: several different pictures have this key" for key in sorted(unclear)]
        wanted = _wanted(_read(files, uris, pictures=True), keys, unclear, refused)
        yield from _checked(wanted, recipe.policy.image, recipe.execution.decode_workers, refused)
    finally:
        files.close()


def _read(files: Files, uris: Iterable[str], *, pictures: bool) -> Iterator[tuple[str, bytes | None]]:
    """Key and picture of each row; without `pictures` their bytes, most of the files, are left where they are."""
    for uri in uris:
        with parquet.opened(files, uri) as table:
            schema = table.schema_arrow
            image = image_column(schema, uri, None)
            inside = pa.types.is_struct(schema.field(image).type)
            columns = [name for name in ("key", "id") if name in schema.names]
            columns += [f"{image}.path"] if inside else []
            columns += ([f"{image}.bytes"] if inside else [image]) if pictures else []
            for batch in table.iter_batches(batch_size=_READ_TOGETHER, columns=columns, use_threads=False):
                for row in batch.to_pylist():
                    picture = row.get(image) if inside else {"bytes": row.get(image)}
                    key = _key(row, picture or {})
                    if key is not None:
                        yield key, (picture or {}).get("bytes")


def _key(row: dict[str, Any], picture: dict[str, Any]) -> str | None:
    """As `read_questions` takes it: `key`, else `id`, else the picture's path."""
    found = (row.get("key"), row.get("id"), picture.get("path"))
    return next((value for value in found if isinstance(value, str)), None)


def _of_several_pictures(rows: Iterable[tuple[str, bytes | None]], keys: Container[str]) -> set[str]:
    found: dict[str, set[bytes]] = defaultdict(set)
    for key, data in rows:
        if key in keys and data:
            found[key].add(hashlib.sha256(data).digest())
    return {key for key, pictures in found.items() if len(pictures) > 1}


def _wanted(
    rows: Iterable[tuple[str, bytes | None]], keys: Container[str], unclear: Container[str], refused: list[str]
) -> Rows:
    seen: set[str] = set()
    for key, data in rows:
        if key not in keys or key in unclear or key in seen:
            continue
        if not data:
            refused.append(f"{key}: the row has no picture")
            continue
        seen.add(key)
        yield key, data


def _checked(rows: Rows, image: ImageRecipe, workers: int, refused: list[str]) -> Rows:
    """The rows whose picture can be decoded, in order; the others go to `refused`."""

    async def check(some: list[tuple[str, bytes]]) -> list[str | None]:
        async with DecodePool(
            image, workers=workers, timeout_s=DECODE_TIMEOUT_S, memory_mb=DECODE_MEMORY_MB, encoding="bmp"
        ) as pool:

            async def problem(data: bytes) -> str | None:
                try:
                    await pool.prepare(data)
                except SampleFailedError as error:
                    return str(error)
                return None

            return await asyncio.gather(*(problem(data) for _, data in some))

    for some in _chunks(rows):
        for (key, data), problem in zip(some, asyncio.run(check(some)), strict=True):
            if problem is None:
                yield key, data
            else:
                refused.append(f"{key}: {problem}")


def _chunks(rows: Rows) -> Iterator[list[tuple[str, bytes]]]:
    some: list[tuple[str, bytes]] = []
    for row in rows:
        some.append(row)
        if len(some) == _CHECKED_TOGETHER:
            yield some
            some = []
    if some:
        yield some
