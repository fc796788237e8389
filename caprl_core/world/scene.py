"""What is in a drawn picture: two to four shapes of different kinds, each in a colour and in one of nine places.

Every scene belongs to one of two splits, decided by its content alone, so that what is measured was never trained on.
"""

import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, get_args

SHAPES = ("circle", "square", "triangle", "star", "cross", "diamond")
COLOURS = ("red", "green", "blue", "yellow", "purple", "orange")
PLACES = tuple(
    f"at the {row} {column}" for row in ("top", "middle", "bottom") for column in ("left", "centre", "right")
)
"""The cells of a 3 x 3 grid, row by row, in the words of captions and options."""
COUNTS = {2: "two", 3: "three", 4: "four"}
FEWEST, MOST = min(COUNTS), max(COUNTS)

Split = Literal["train", "held_out"]

HELD_OUT_ONE_IN = 8
"""One scene in so many is held out. There are 38,880 scenes of two shapes alone, so each split has plenty."""


@dataclass(frozen=True, slots=True)
class Thing:
    """One shape; the texts are of `SHAPES`, `COLOURS` and `PLACES`."""

    shape: str
    colour: str
    place: str

    def __post_init__(self) -> None:
        """Raises `ValueError` for a thing there are no words for."""
        if self.shape not in SHAPES or self.colour not in COLOURS or self.place not in PLACES:
            raise ValueError(f"no such thing: {self}")


@dataclass(frozen=True, slots=True)
class Scene:
    """The things of a picture, row by row from the top left. No two are of one shape or in one place."""

    things: tuple[Thing, ...]

    def __post_init__(self) -> None:
        """Raises `ValueError` for a scene that is never drawn."""
        places = [PLACES.index(thing.place) for thing in self.things]
        if not FEWEST <= len(self.things) <= MOST:
            raise ValueError(f"{len(self.things)} things: {FEWEST} to {MOST} are possible")
        if places != sorted(set(places)) or len({thing.shape for thing in self.things}) != len(self.things):
            raise ValueError("things must be of different shapes, in different places, and in reading order")

    @property
    def count(self) -> str:
        """How many things there are, as a word."""
        return COUNTS[len(self.things)]

    @property
    def split(self) -> Split:
        """Which split this scene belongs to; a function of its content."""
        digest = hashlib.blake2b(repr(scene_fields(self)).encode(), digest_size=8).digest()
        return "held_out" if int.from_bytes(digest, "big") % HELD_OUT_ONE_IN == 0 else "train"


def random_scene(rng: random.Random, split: Split = "train") -> Scene:
    """A scene of the split, uniform in the number of things, then in what they are and where.

    Raises `ValueError` for another split, to which no scene would ever belong.
    """
    if split not in get_args(Split):
        raise ValueError(f"{split!r} is no split: it is one of {', '.join(get_args(Split))}")
    while True:
        number = rng.randint(FEWEST, MOST)
        shapes = rng.sample(SHAPES, number)
        places = sorted(rng.sample(range(len(PLACES)), number))
        scene = Scene(
            tuple(Thing(shape, rng.choice(COLOURS), PLACES[place]) for shape, place in zip(shapes, places, strict=True))
        )
        if scene.split == split:
            return scene


def scenes(split: Split, count: int, seed: int = 0) -> Iterator[Scene]:
    """`count` scenes; the same split and seed give the same ones, and a longer list begins with the shorter."""
    rng = random.Random(f"scenes/{split}/{seed}")
    for _ in range(count):
        yield random_scene(rng, split)


def scene_fields(scene: Scene) -> list[dict[str, str]]:
    """As stored beside a picture."""
    return [{"shape": thing.shape, "colour": thing.colour, "place": thing.place} for thing in scene.things]


def scene_of(fields: Any) -> Scene:
    """From stored fields. Raises `ValueError`, `KeyError` or `TypeError` for fields that are no scene."""
    return Scene(tuple(Thing(str(one["shape"]), str(one["colour"]), str(one["place"])) for one in fields))
