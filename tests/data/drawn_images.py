"""Small pictures of every kind a crawl holds, drawn on the spot."""

import io
import struct
import zlib

from PIL import Image


def file_bytes(image: Image.Image, image_format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=image_format, **options)
    return buffer.getvalue()


def quadrants(width: int = 112, height: int = 112) -> Image.Image:
    """Red, green / blue, white: every turn and flip looks different."""
    image = Image.new("RGB", (width, height), "white")
    image.paste("red", (0, 0, width // 2, height // 2))
    image.paste("lime", (width // 2, 0, width, height // 2))
    image.paste("blue", (0, height // 2, width // 2, height))
    return image


def opened(encoded: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(encoded))
    image.load()
    return image


def png_claiming(width: int, height: int) -> bytes:
    """A PNG whose header promises that many pixels and whose data hold a few."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(64))) + chunk(b"IEND", b"")
    )


def sixteen_bit_ramp() -> Image.Image:
    """56 x 56, `I;16`: from black at the left to white (65535) at the right."""
    row = b"".join(struct.pack("<H", round(x * 65535 / 55)) for x in range(56))
    return Image.frombytes("I;16", (56, 56), row * 56)
