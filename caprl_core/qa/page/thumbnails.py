"""A picture's bytes as a small JPEG for a page, or the reason why there is none."""

import io
from dataclasses import dataclass
from typing import Final

from PIL import Image

from caprl_core.data.images import prepare_image
from caprl_core.errors import SampleFailedError
from caprl_core.recipe.models import ImageRecipe

MOST_SIDE: Final = 320
"""Pixels of a thumbnail's longer side at most."""
MOST_BYTES: Final = 50_000
"""Bytes of a thumbnail at most: twenty of them, as base64, are 1.4 MB."""

# Noise of 320 x 320 px, the worst there is, takes 65 kB at quality 80, 46 kB at 60 and 14 kB at 15.
_QUALITIES: Final = (80, 60, 40, 25, 15)
# Stricter than a dataset's own limits, because this decodes in the caller's process: 2**26 px are 200 MB as RGB.
_RECIPE: Final = ImageRecipe(
    min_pixels=1, max_pixels=MOST_SIDE**2, factor=1, min_side=1, truncated="keep", max_source_pixels=2**26
)


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """JPEG bytes with their width and height in pixels."""

    jpeg: bytes
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class NoThumbnail:
    """Why a picture cannot be shown, in words."""

    reason: str


def thumbnail(data: bytes) -> Thumbnail | NoThumbnail:
    """The picture, upright, fitted into a square of `MOST_SIDE` pixels; never raises for any bytes.

    Not for several threads of one process at a time, and it decodes without a process of its own: give it pictures
    that went through the factory's decoding before.
    """
    try:
        prepared = prepare_image(data, _RECIPE)
    except SampleFailedError as error:
        return NoThumbnail(f"{error.reason}: {error.detail}")
    with Image.open(io.BytesIO(prepared.encoded), formats=("PNG",)) as image:
        image.thumbnail((MOST_SIDE, MOST_SIDE))
        for quality in _QUALITIES:
            buffer = io.BytesIO()
            image.save(buffer, format="JPEG", quality=quality, optimize=True)
            if buffer.tell() <= MOST_BYTES:
                return Thumbnail(buffer.getvalue(), image.width, image.height)
    return NoThumbnail(f"a JPEG of {MOST_SIDE} px takes more than {MOST_BYTES} bytes")
