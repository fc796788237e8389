"""The images of one unit's samples: prepared for the engine, and later the bytes that the tar carries of them."""

import asyncio
import hashlib
import logging
import time
from collections.abc import Mapping

from caprl_core.data.decode_pool import DecodePool
from caprl_core.data.files.errors import ObjectRefusedError
from caprl_core.data.reasons import Reason
from caprl_core.data.roots import ImageReader
from caprl_core.data.sample import PlannedSample, PreparedImage
from caprl_core.errors import SampleFailedError, StoreError
from caprl_core.recipe.models import StageRecipe
from caprl_core.shards.previous import PreviousRevision
from caprl_core.shards.results import member_of
from caprl_core.shards.stage import Stage

logger = logging.getLogger(__name__)

TOLD_EVERY_S = 60.0
ROOT_PAUSE_S = 5.0
"""Seconds between looks whether a root of images is back."""


class SampleImages:
    """Raises `SampleFailedError` where one sample is to blame, and what `ImageReader.read` raises for whole roots."""

    def __init__(
        self, recipe: StageRecipe, stage: Stage, reader: ImageReader, decoder: DecodePool, previous: PreviousRevision
    ) -> None:
        self._recipe = recipe
        self._stage = stage
        self._reader = reader
        self._decoder = decoder
        self._previous = previous

    async def prepared(self, sample: PlannedSample) -> PreparedImage | None:
        """As the engine wants it; None for stages that read no images."""
        if self._stage.image_use != "unread":
            return await self._decoder.prepare(await self._read(sample))
        if sample.problem is not None:
            raise SampleFailedError(Reason.SAMPLE_INVALID, sample.problem)
        return None

    async def member_again(self, sample: PlannedSample, row: Mapping[str, object]) -> bytes:
        """The bytes of a row that an earlier attempt or revision finished, from the tar before or the source."""
        data = await asyncio.to_thread(self._previous.member, row)
        if data is None:
            data = await self._read(sample)
            if await asyncio.to_thread(_sha256, data) != row["image_sha256"]:
                raise SampleFailedError(Reason.IMAGE_CHANGED, "the image is not the one that was captioned")
            if self._recipe.image.reencode != "none":
                data = (await asyncio.to_thread(member_of, await self._decoder.prepare(data), self._recipe))[0]
        if await asyncio.to_thread(_sha256, data) != row["member_sha256"]:
            raise SampleFailedError(Reason.IMAGE_CHANGED, "the tar member cannot be made again with the same bytes")
        return data

    async def _read(self, sample: PlannedSample) -> bytes:
        """The bytes as they are. A root that is away is waited for like the store; one that refuses us is not."""
        deadline = time.monotonic() + self._recipe.execution.storage.outage_s
        told = float("-inf")
        while True:
            try:
                return await self._reader.read(sample)
            except StoreError as error:
                if isinstance(error.__cause__, ObjectRefusedError) or time.monotonic() > deadline:
                    raise
                if time.monotonic() - told > TOLD_EVERY_S:
                    told = time.monotonic()
                    logger.warning("sample %s waits for its image: %s", sample.key, error)
            await asyncio.sleep(ROOT_PAUSE_S)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
