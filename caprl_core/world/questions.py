"""Multiple-choice questions about a scene, with known answers. `reading.strict_answer` says what a caption answers."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from caprl_core.qa.question import Question
from caprl_core.world.reading import Asks
from caprl_core.world.scene import COLOURS, COUNTS, PLACES, SHAPES, Scene

KINDS: tuple[Asks, ...] = ("colour", "where", "what", "which", "count")
"""The five kinds that need the picture. `leaky` questions give their answer away: a filter is to find them."""

OPTIONS = 4
CANNOT = "cannot answer"
"""Text of the further option, and what the models say when nothing tells the answer."""
COUNT_OPTIONS = (*COUNTS.values(), "five")
POOLS: dict[Asks, Sequence[str]] = {
    "colour": COLOURS,
    "leaky": COLOURS,
    "where": PLACES,
    "what": SHAPES,
    "which": SHAPES,
    "count": COUNT_OPTIONS,
}
"""Texts that options are drawn from."""


@dataclass(frozen=True, slots=True)
class SceneQuestion:
    """A question, what kind it is, what it is about (`subject`, its last words) and the right option's text."""

    kind: Asks
    subject: str
    value: str
    question: Question


def scene_questions(scene: Scene, rng: random.Random) -> list[SceneQuestion]:
    """Every question of the five kinds that has one right answer; `rng` decides wrong options and their order."""
    found: list[SceneQuestion] = []
    colours = [thing.colour for thing in scene.things]
    for thing in scene.things:
        found.append(_question("colour", f"What colour is the {thing.shape}?", thing.shape, thing.colour, rng))
        found.append(_question("where", f"Where is the {thing.shape}?", thing.shape, thing.place, rng))
        found.append(_question("what", f"Which shape is {thing.place}?", thing.place, thing.shape, rng))
        if colours.count(thing.colour) == 1:
            found.append(_question("which", f"Which shape is {thing.colour}?", thing.colour, thing.shape, rng))
    found.append(_question("count", "What is the number of shapes?", "shapes", scene.count, rng))
    return found


def leaky_questions(scene: Scene, rng: random.Random) -> list[SceneQuestion]:
    """Questions whose stem holds the answer, one a thing: right without the picture, so of no use."""
    return [
        _question("leaky", f"What colour is the {thing.colour} {thing.shape}?", thing.shape, thing.colour, rng)
        for thing in scene.things
    ]


def _question(kind: Asks, stem: str, subject: str, value: str, rng: random.Random) -> SceneQuestion:
    options = [value, *rng.sample([text for text in POOLS[kind] if text != value], OPTIONS - 1)]
    rng.shuffle(options)
    return SceneQuestion(kind, subject, value, Question(stem, tuple(options), options.index(value)))
