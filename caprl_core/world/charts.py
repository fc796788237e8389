"""Bar charts with labels: two or three coloured bars, the value of each written above it, and questions about them.

A second kind of picture with exact known content. The committed models are not taught it.
"""

import hashlib
import random
import re
from dataclasses import dataclass
from itertools import pairwise

from PIL import Image, ImageDraw

from caprl_core.qa.question import Question
from caprl_core.world.captions import Fact
from caprl_core.world.drawing import CELL, GROUND, RGB, SIDE
from caprl_core.world.scene import COLOURS

SIDES = ("left", "centre", "right")
VALUES = ("one", "two", "three", "four", "five", "six")
"""A bar of value n is n x UNIT pixels tall and has the figure n above it."""
UNIT = 10
BASE = SIDE - 6  # the axis, in pixels from the top
WIDTH = 16
OPTIONS = 4

_GLYPHS = (
    "010110010010111",
    "110001010100111",
    "110001010001110",
    "101101111001001",
    "111100110001110",
    "011100111101111",
)
"""The figures 1 to 6, 3 x 5 points each row by row: a font of our own is the same on every machine."""
_GLYPH_COLUMNS, _POINT = 3, 2


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar; the texts are of `COLOURS`, `VALUES` and `SIDES`."""

    colour: str
    value: str
    side: str

    def __post_init__(self) -> None:
        """Raises `ValueError` for a bar there are no words for."""
        if self.colour not in COLOURS or self.value not in VALUES or self.side not in SIDES:
            raise ValueError(f"no such bar: {self}")


@dataclass(frozen=True, slots=True)
class Chart:
    """Two or three bars from left to right, of different colours and values."""

    bars: tuple[Bar, ...]

    def __post_init__(self) -> None:
        """Raises `ValueError` for a chart that is never drawn."""
        places = [SIDES.index(bar.side) for bar in self.bars]
        if len(self.bars) < 2 or any(one >= other for one, other in pairwise(places)):
            raise ValueError("a chart has two or three bars, from left to right")
        if len({bar.colour for bar in self.bars}) + len({bar.value for bar in self.bars}) != 2 * len(self.bars):
            raise ValueError("bars differ in colour and in value")


def random_chart(rng: random.Random) -> Chart:
    """A chart, uniform in the number of bars, then in colours, values and places."""
    number = rng.randint(2, len(SIDES))
    places = sorted(rng.sample(range(len(SIDES)), number))
    colours, values = rng.sample(COLOURS, number), rng.sample(VALUES, number)
    return Chart(
        tuple(Bar(colour, value, SIDES[at]) for colour, value, at in zip(colours, values, places, strict=True))
    )


def draw_chart(chart: Chart, seed: int = 0) -> Image.Image:
    """An RGB picture of `SIDE` pixels; `seed` decides the shade of the ground alone."""
    rng = random.Random(hashlib.blake2b(f"{seed}/{chart!r}".encode(), digest_size=16).hexdigest())
    picture = Image.new("RGB", (SIDE, SIDE), (rng.randint(*GROUND),) * 3)
    pen = ImageDraw.Draw(picture)
    pen.line((2, BASE, SIDE - 3, BASE), fill="black", width=2)
    for bar in chart.bars:
        left = SIDES.index(bar.side) * CELL + (CELL - WIDTH) // 2
        top = BASE - UNIT * (VALUES.index(bar.value) + 1)
        pen.rectangle((left, top, left + WIDTH - 1, BASE), fill=RGB[bar.colour], outline="black")
        # The figure stands above the bar: 10 pixels tall, and a point's distance.
        _write(pen, VALUES.index(bar.value), left + (WIDTH - _GLYPH_COLUMNS * _POINT) // 2, top - 6 * _POINT)
    return picture


def _write(pen: ImageDraw.ImageDraw, figure: int, left: int, top: int) -> None:
    for number, point in enumerate(_GLYPHS[figure]):
        if point == "1":
            row, column = divmod(number, _GLYPH_COLUMNS)
            x, y = left + column * _POINT, top + row * _POINT
            pen.rectangle((x, y, x + _POINT - 1, y + _POINT - 1), fill="black")


def chart_caption(chart: Chart) -> str:
    """Everything there is to say, from left to right."""
    phrases = [f"{_article(bar.colour)} {bar.colour} bar of {bar.value} on the {bar.side}" for bar in chart.bars]
    listed = f"{', '.join(phrases[:-1])} and {phrases[-1]}"
    return f"A bar chart with {VALUES[len(chart.bars) - 1]} bars: {listed}."


def _article(word: str) -> str:
    return "an" if word[0] in "aeiou" else "a"


def chart_facts(chart: Chart) -> frozenset[Fact]:
    """How many bars there are, and of each its value and its side; a bar is named by its colour."""
    facts: set[Fact] = {("bars", "", VALUES[len(chart.bars) - 1])}
    for bar in chart.bars:
        facts |= {("bar", bar.colour, ""), ("value", bar.colour, bar.value), ("side", bar.colour, bar.side)}
    return frozenset(facts)


_BARS = re.compile(rf"\b(?P<count>{'|'.join(VALUES)}) bars\b")
_BAR = re.compile(
    rf"\b(?P<colour>{'|'.join(COLOURS)}) bar\b(?: of (?P<value>{'|'.join(VALUES)})\b)?"
    rf"(?: on the (?P<side>{'|'.join(SIDES)})\b)?"
)


def stated_chart_facts(caption: str) -> frozenset[Fact]:
    """The facts about a chart that a caption states in our words, true or not."""
    facts: set[Fact] = {("bars", "", match["count"]) for match in _BARS.finditer(caption)}
    for match in _BAR.finditer(caption):
        facts.add(("bar", match["colour"], ""))
        facts |= {(aspect, match["colour"], match[aspect]) for aspect in ("value", "side") if match[aspect]}
    return frozenset(facts)


def chart_questions(chart: Chart, rng: random.Random) -> list[Question]:
    """Every question there is: values by colour, colours by side, the tallest, the number; `rng` draws options."""
    tallest = max(chart.bars, key=lambda bar: VALUES.index(bar.value))
    found = [
        _question("What is the number of bars?", VALUES[len(chart.bars) - 1], VALUES, rng),
        _question("Which bar is the tallest?", tallest.colour, COLOURS, rng),
    ]
    for bar in chart.bars:
        found.append(_question(f"What is the value of the {bar.colour} bar?", bar.value, VALUES, rng))
        found.append(_question(f"Which bar is on the {bar.side}?", bar.colour, COLOURS, rng))
    return found


def _question(stem: str, value: str, pool: tuple[str, ...], rng: random.Random) -> Question:
    options = [value, *rng.sample([text for text in pool if text != value], OPTIONS - 1)]
    rng.shuffle(options)
    return Question(stem, tuple(options), options.index(value))
