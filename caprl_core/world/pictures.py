"""Draws pictures that need no download: shapes on a plain ground, and files made to be refused."""

import io
import random
import struct
import zlib
from pathlib import Path

from PIL import Image, ImageDraw

COLOURS = ("red", "orange", "gold", "green", "teal", "blue", "purple", "black")
SHAPES = ("circle", "square", "triangle")
SIDES = (84, 320)
"""Pixels of a side at least and at most: small enough for a CPU, different enough to be scaled both ways."""
GREY = (112, 128)
"""The ground is a middle grey in this range, near the mean the image processor subtracts."""

BOMB_SIDE = 30_000
"""Pixels: 900 million in a PNG of about 110 kB, five times what a decoder should accept."""
ROTATED = 6  # EXIF orientation: turn by 90 degrees clockwise to see it upright


def draw_picture(number: int, seed: int = 0) -> tuple[Image.Image, str]:
    """A picture and a plain sentence that is true of it; the same number and seed give the same."""
    rng = random.Random(f"picture/{seed}/{number}")
    width, height = rng.randint(*SIDES), rng.randint(*SIDES)
    picture = Image.new("RGB", (width, height), (rng.randint(*GREY),) * 3)
    pen = ImageDraw.Draw(picture)
    drawn = []
    for _ in range(rng.randint(2, 4)):
        shape, colour = rng.choice(SHAPES), rng.choice(COLOURS)
        radius = rng.randint(min(width, height) // 10, min(width, height) // 4)
        x, y = rng.randint(radius, width - radius), rng.randint(radius, height - radius)
        box = (x - radius, y - radius, x + radius, y + radius)
        if shape == "circle":
            pen.ellipse(box, fill=colour, outline="black")
        elif shape == "square":
            pen.rectangle(box, fill=colour, outline="black")
        else:
            pen.polygon([(x, y - radius), (x - radius, y + radius), (x + radius, y + radius)], fill=colour)
        drawn.append(f"a {colour} {shape}")
    return picture, f"{', '.join(drawn[:-1])} and {drawn[-1]} on a grey ground."


def encode(picture: Image.Image, kind: str, **options: object) -> bytes:
    """The bytes of a picture file; `kind` is Pillow's name of the format."""
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def hostile_files(seed: int = 0) -> dict[str, bytes]:
    """File name -> bytes. All but the rotated one are refused, each for another reason."""
    picture, _ = draw_picture(-1, seed)
    turned = Image.Exif()
    turned[0x0112] = ROTATED
    return {
        "rotated-by-exif.jpg": encode(picture, "JPEG", exif=turned),
        "truncated.jpg": encode(picture.resize((320, 320)), "JPEG", quality=95)[:3000],
        "bomb.png": _bomb(),
        "no-picture.jpg": b"<html><body>404 Not Found</body></html>\n",
    }


def write_pictures(folder: Path, count: int, seed: int = 0) -> dict[str, str]:
    """Draw `count` pictures into `folder`, JPEG and PNG in turn; returns file name -> sentence."""
    folder.mkdir(parents=True, exist_ok=True)
    sentences = {}
    for number in range(count):
        picture, sentence = draw_picture(number, seed)
        name = f"drawn-{number:04d}.{'jpg' if number % 2 else 'png'}"
        (folder / name).write_bytes(encode(picture, "JPEG" if number % 2 else "PNG"))
        sentences[name] = sentence
    return sentences


def _bomb() -> bytes:
    """A valid PNG header and a well compressed plain of zeros."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    # One bit a pixel, grey: a row is a filter byte and BOMB_SIDE / 8 bytes.
    header = struct.pack(">IIBBBBB", BOMB_SIDE, BOMB_SIDE, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes((1 + -(-BOMB_SIDE // 8)) * BOMB_SIDE), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
