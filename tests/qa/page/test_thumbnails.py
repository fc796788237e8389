"""Thumbnails: small JPEGs of any picture, and a reason instead of an exception for everything else."""

import io
import random

import pytest
from PIL import Image

from caprl_core.qa.page.thumbnails import MOST_BYTES, MOST_SIDE, NoThumbnail, Thumbnail, thumbnail


def jpeg(width: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (width, width // 2), "teal").save(buffer, format="JPEG")
    return buffer.getvalue()


def test_a_picture_is_fitted_into_the_square_and_keeps_its_shape() -> None:
    shown = thumbnail(jpeg(1000))
    assert isinstance(shown, Thumbnail)
    assert (shown.width, shown.height) == (MOST_SIDE, MOST_SIDE // 2) and len(shown.jpeg) <= MOST_BYTES
    with Image.open(io.BytesIO(shown.jpeg)) as image:
        assert (image.format, image.size) == ("JPEG", (shown.width, shown.height))


def test_a_picture_of_noise_is_made_coarser_until_it_is_small_enough() -> None:
    noise = Image.frombytes("RGB", (MOST_SIDE, MOST_SIDE), random.Random(3).randbytes(MOST_SIDE**2 * 3))
    buffer = io.BytesIO()
    noise.save(buffer, format="PNG")
    shown = thumbnail(buffer.getvalue())
    assert isinstance(shown, Thumbnail)
    assert (shown.width, shown.height) == noise.size and len(shown.jpeg) <= MOST_BYTES


def test_a_small_picture_is_not_blown_up() -> None:
    shown = thumbnail(jpeg(84))
    assert isinstance(shown, Thumbnail) and (shown.width, shown.height) == (84, 42)


@pytest.mark.parametrize(
    ("data", "reason"),
    [(b"", "image_corrupt"), (b"no picture", "image_"), (b"\x89PNG\r\n\x1a\n" + b"\0" * 50, "image_")],
    ids=["empty", "text", "broken"],
)
def test_what_does_not_decode_is_a_reason(data: bytes, reason: str) -> None:
    shown = thumbnail(data)
    assert isinstance(shown, NoThumbnail) and reason in shown.reason
