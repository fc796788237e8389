"""Digests of image contents for finding duplicates while planning."""

import asyncio
import hashlib
from collections.abc import Sequence

from caprl_core.data.roots import ImageReader
from caprl_core.data.sample import PlannedSample, SourceRecord
from caprl_core.errors import SampleFailedError
from caprl_core.recipe.models import StageRecipe

DIGEST_BYTES = 12
"""Bytes of sha256 compared: among 5,000,000 images two different ones share them with probability 2e-16."""


class ContentDigests:
    """Reads images to compare them. One for a whole plan: what the reader learns about archives stays."""

    def __init__(self, recipe: StageRecipe) -> None:
        self._reader = ImageReader(recipe)
        self._concurrency = recipe.execution.runner.read_concurrency

    def of(self, source: str, records: Sequence[SourceRecord]) -> bytes:
        """`DIGEST_BYTES` a record, concatenated: the start of the sha256 of the image's bytes.

        An image that cannot be read equals no other: its digest is made from its place in the source.
        """
        return b"".join(asyncio.run(self._digests(source, records)))

    def close(self) -> None:
        """Close the reader."""
        self._reader.close()

    async def _digests(self, source: str, records: Sequence[SourceRecord]) -> list[bytes]:
        places = asyncio.Semaphore(self._concurrency)

        async def digest(record: SourceRecord) -> bytes:
            sample = PlannedSample("", 0, record.ordinal, source, record.image, problem=record.problem)
            async with places:
                try:
                    data = await self._reader.read(sample)
                except SampleFailedError:
                    data = f"unreadable\0{source}\0{record.ordinal}".encode()
            return hashlib.sha256(data).digest()[:DIGEST_BYTES]

        return list(await asyncio.gather(*(digest(record) for record in records)))
