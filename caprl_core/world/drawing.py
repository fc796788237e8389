"""Draws a scene: 84 x 84 pixels, a 3 x 3 grid of cells of 28, one visual token of Qwen2.5-VL each."""

import hashlib
import math
import random
from collections.abc import Callable, Mapping

from PIL import Image, ImageDraw

from caprl_core.world.scene import PLACES, Scene, scene_fields

CELL = 28
SIDE = 3 * CELL
"""Pixels. A visual token of Qwen2.5-VL is 2 x 2 patches of 14 pixels, so a picture is 9 tokens."""
GROUND = (112, 128)
"""A middle grey near the mean the image processor subtracts: on a near-white ground models of this size learnt nothing
in 700 steps (design section 8)."""
RADII = (10, 11)
SHIFT = 1
COLOUR_NOISE = 15
OUTLINE = 2
RGB = {
    "red": (220, 40, 40),
    "green": (40, 170, 60),
    "blue": (50, 80, 220),
    "yellow": (240, 210, 40),
    "purple": (150, 60, 190),
    "orange": (245, 140, 30),
}
_STAR_INNER = 0.45  # inner radius of a star's corners, of the outer one

Point = tuple[float, float]
Corners = Callable[[float, float, float], list[Point]]


def draw_scene(scene: Scene, seed: int = 0) -> Image.Image:
    """An RGB picture of the scene; `seed` decides jitter (1 pixel), size and noise of colours, never the content."""
    text = hashlib.blake2b(f"{seed}/{scene_fields(scene)!r}".encode(), digest_size=16).hexdigest()
    cells = {PLACES.index(thing.place): (thing.shape, thing.colour) for thing in scene.things}
    return draw_cells(cells, random.Random(text))


def draw_cells(cells: Mapping[int, tuple[str, str]], rng: random.Random) -> Image.Image:
    """An RGB picture of `SIDE` pixels with a shape and colour in each of the given cells, 0 to 8 row by row."""
    picture = Image.new("RGB", (SIDE, SIDE), tuple(rng.randint(*GROUND) for _ in range(3)))
    pen = ImageDraw.Draw(picture)
    for cell, (shape, name) in cells.items():
        row, column = divmod(cell, SIDE // CELL)
        x = column * CELL + CELL // 2 + rng.randint(-SHIFT, SHIFT)
        y = row * CELL + CELL // 2 + rng.randint(-SHIFT, SHIFT)
        colour = tuple(max(0, min(255, part + rng.randint(-COLOUR_NOISE, COLOUR_NOISE))) for part in RGB[name])
        draw_shape(pen, shape, (x, y), rng.randint(*RADII), colour)
    return picture


def draw_shape(
    pen: ImageDraw.ImageDraw, shape: str, centre: tuple[int, int], radius: int, colour: tuple[int, ...]
) -> None:
    """One shape with a black outline. Raises `KeyError` for a shape there is none of."""
    x, y = centre
    if shape == "circle":
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour, outline="black", width=OUTLINE)
    else:
        pen.polygon(_CORNERS[shape](x, y, radius), fill=colour, outline="black", width=OUTLINE)


def _square(x: float, y: float, radius: float) -> list[Point]:
    side = radius - 1  # the corners reach further out than a circle does
    return [(x - side, y - side), (x + side, y - side), (x + side, y + side), (x - side, y + side)]


def _triangle(x: float, y: float, radius: float) -> list[Point]:
    return [(x, y - radius), (x + radius, y + radius), (x - radius, y + radius)]


def _diamond(x: float, y: float, radius: float) -> list[Point]:
    return [(x, y - radius), (x + radius, y), (x, y + radius), (x - radius, y)]


def _cross(x: float, y: float, radius: float) -> list[Point]:
    arm = radius // 3 + 1
    quarter = [(-arm, -radius), (arm, -radius), (arm, -arm)]
    corners = []
    for _ in range(4):
        corners += [(x + dx, y + dy) for dx, dy in quarter]
        quarter = [(-dy, dx) for dx, dy in quarter]
    return corners


def _star(x: float, y: float, radius: float) -> list[Point]:
    corners = []
    for corner in range(10):
        reach = radius * (_STAR_INNER if corner % 2 else 1.0)
        angle = corner * math.pi / 5
        corners.append((x + reach * math.sin(angle), y - reach * math.cos(angle)))
    return corners


_CORNERS: dict[str, Corners] = {
    "square": _square,
    "triangle": _triangle,
    "diamond": _diamond,
    "cross": _cross,
    "star": _star,
}
