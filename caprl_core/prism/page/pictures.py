"""The pictures of a page's examples, small: from the tars of the captions, or from where the benchmark's images lie."""

import asyncio
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Final, NamedTuple

from caprl_core.data.decode_pool import DecodePool
from caprl_core.data.roots.reader import ImageReader
from caprl_core.data.sample import PlannedSample
from caprl_core.errors import CaprlError
from caprl_core.prism.stages import CAPTIONS, caption_recipe, judge_recipe
from caprl_core.qa.page.thumbnails import MOST_SIDE, NoThumbnail, Thumbnail, thumbnail
from caprl_core.recipe.models import ImageRecipe
from caprl_core.recipe.prism import PrismRecipe

_TIMEOUT_S: Final = 20.0
"""Seconds a picture may take to decode: it is one of a few on a page."""
_SMALL: Final = ImageRecipe(min_pixels=1, max_pixels=MOST_SIDE**2, factor=1, min_side=1, truncated="keep")


class Wanted(NamedTuple):
    """The image of a judged row: its benchmark, and what the row calls it."""

    benchmark: str
    image: str


def read_pictures(
    recipe: PrismRecipe, upstream: str, wanted: Mapping[str, Wanted]
) -> dict[str, Thumbnail | NoThumbnail]:
    """Thumbnails by key; a reason where there is none, whatever is the matter with an image.

    `upstream` is the fingerprint of the captions' dataset. Each image is decoded in a process of its own, as nobody may
    have decoded it before. May be called with or without an event loop running.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="caprl-pictures") as thread:
        return thread.submit(lambda: asyncio.run(_read(recipe, upstream, wanted))).result()


async def _read(recipe: PrismRecipe, upstream: str, wanted: Mapping[str, Wanted]) -> dict[str, Thumbnail | NoThumbnail]:
    written = recipe.captioner is not None
    stage = judge_recipe(recipe, upstream) if written else caption_recipe(recipe)
    reader = ImageReader(stage)
    memory = recipe.execution.runner.decode_memory_mb
    found = {}
    try:
        async with DecodePool(_SMALL, workers=1, timeout_s=_TIMEOUT_S, memory_mb=memory) as pool:
            for key, (benchmark, image) in wanted.items():
                sample = PlannedSample(key, 0, 0, CAPTIONS if written else benchmark, image)
                try:
                    found[key] = thumbnail((await pool.prepare(await reader.read(sample))).encoded)
                except (CaprlError, OSError) as error:
                    found[key] = NoThumbnail(f"the picture could not be read: {error}")
    finally:
        reader.close()
    return found
