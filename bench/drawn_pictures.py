"""Pictures to measure with: JPEGs of coloured shapes and noise, all different, the same in every run."""

import io
import random
from pathlib import Path

from PIL import Image, ImageDraw


def jpeg(number: int, width: int, height: int) -> bytes:
    """One JPEG; noise makes it as large as a photograph of its size."""
    rng = random.Random(number)
    picture = Image.frombytes("RGB", (width // 4, height // 4), rng.randbytes(width // 4 * (height // 4) * 3))
    picture = picture.resize((width, height), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(picture)
    for _ in range(6):
        x, y, size = rng.randrange(width), rng.randrange(height), rng.randrange(10, max(11, width // 2))
        draw.ellipse((x, y, x + size, y + size), fill=tuple(rng.randbytes(3)))
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=85)
    return out.getvalue()


def draw_folder(folder: Path, count: int, width: int, height: int) -> Path:
    """`count` JPEGs in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        (folder / f"{number:06d}.jpg").write_bytes(jpeg(number, width, height))
    return folder
