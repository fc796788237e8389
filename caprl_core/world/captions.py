"""Captions of scenes, from empty to complete, and exact checks of any caption against a scene."""

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass

from caprl_core.world.scene import COLOURS, COUNTS, PLACES, SHAPES, Scene, Thing

Fact = tuple[str, str, str]
"""(aspect, shape, value): `("shape", "star", "")`, `("colour", "star", "red")`, `("place", "star", "at the top left")`
or `("count", "", "three")`."""

EMPTY_CAPTIONS = ("An image.", "Some shapes on a plain background.", "A colourful picture.")
"""Captions that state no fact."""


@dataclass(frozen=True, slots=True)
class Mention:
    """What a caption says of a thing: its shape always, colour and place or None."""

    shape: str
    colour: str | None
    place: str | None


@dataclass(frozen=True, slots=True)
class Detail:
    """Chances that a caption mentions a thing, a mentioned thing's colour and place, and the count."""

    thing: float = 1.0
    colour: float = 1.0
    place: float = 1.0
    count: float = 1.0


FULL = Detail()
THIN = Detail(thing=0.45, colour=0.55, place=0.35, count=0.2)
"""The warm start of GRPO: deliberately poor, yet it sometimes says each kind of fact (design section 8)."""
NOTHING = Detail(0.0, 0.0, 0.0, 0.0)


def full_caption(scene: Scene) -> str:
    """Everything there is to say, row by row."""
    return _sentence(scene.count, [Mention(thing.shape, thing.colour, thing.place) for thing in scene.things], 0)


def random_caption(scene: Scene, detail: Detail, rng: random.Random, shuffle: bool = True) -> str:
    """A true caption with as much detail as the dice give; things in random order unless `shuffle` is off."""
    things = [thing for thing in scene.things if rng.random() < detail.thing]
    if shuffle:
        rng.shuffle(things)
    mentions = [_mention(thing, detail, rng) for thing in things]
    return _sentence(scene.count if rng.random() < detail.count else None, mentions, rng.randrange(6))


def mixed_caption(scenes: Sequence[Scene], detail: Detail, rng: random.Random) -> str:
    """A caption that speaks of several scenes as if they were one: grammar is kept, truth and consistency are not."""
    things = [thing for scene in scenes for thing in scene.things if rng.random() < detail.thing]
    rng.shuffle(things)
    mentions = [_mention(thing, detail, rng) for thing in things]
    return _sentence(scenes[0].count if rng.random() < detail.count else None, mentions, rng.randrange(6))


def _mention(thing: Thing, detail: Detail, rng: random.Random) -> Mention:
    colour = thing.colour if rng.random() < detail.colour else None
    place = thing.place if rng.random() < detail.place else None
    return Mention(thing.shape, colour, place)


def _sentence(count: str | None, mentions: Sequence[Mention], wording: int) -> str:
    phrases = [_phrase(mention) for mention in mentions]
    listed = " and ".join([", ".join(phrases[:-1]), phrases[-1]] if len(phrases) > 1 else phrases)
    if count is not None:
        if listed:
            return f"There are {count} shapes: {listed}."
        return (f"There are {count} shapes.", f"An image with {count} shapes.")[wording % 2]
    return f"There is {listed}." if listed else EMPTY_CAPTIONS[wording % 3]


def _phrase(mention: Mention) -> str:
    noun = mention.shape if mention.colour is None else f"{mention.colour} {mention.shape}"
    article = "an" if noun[0] in "aeiou" else "a"
    return f"{article} {noun}" if mention.place is None else f"{article} {noun} {mention.place}"


def scene_facts(scene: Scene) -> frozenset[Fact]:
    """All facts of a scene: its count, and of each thing that it is there, its colour and its place."""
    facts: set[Fact] = {("count", "", scene.count)}
    for thing in scene.things:
        facts |= {
            ("shape", thing.shape, ""),
            ("colour", thing.shape, thing.colour),
            ("place", thing.shape, thing.place),
        }
    return frozenset(facts)


_NOUN = rf"(?:(?P<colour>{'|'.join(COLOURS)}) )?(?P<shape>{'|'.join(SHAPES)})"
_MENTION = re.compile(rf"\ban? {_NOUN}\b(?: (?P<place>{'|'.join(PLACES)})\b)?")
_COUNT = re.compile(rf"\b(?P<count>{'|'.join([*COUNTS.values(), 'one', 'five', 'six'])}) shapes\b")


def stated_facts(caption: str) -> frozenset[Fact]:
    """The facts a caption states, true or not, each once; what it says in other words than ours is not seen.

    Whoever names a colour or place of a thing also states that it is there.
    """
    facts: set[Fact] = {("count", "", match["count"]) for match in _COUNT.finditer(caption)}
    for match in _MENTION.finditer(caption):
        facts.add(("shape", match["shape"], ""))
        if match["colour"] is not None:
            facts.add(("colour", match["shape"], match["colour"]))
        if match["place"] is not None:
            facts.add(("place", match["shape"], match["place"]))
    return frozenset(facts)


@dataclass(frozen=True, slots=True)
class Truth:
    """How many facts a caption states, and how many of these are true of the scene."""

    stated: int
    true: int


def true_facts(caption: str, scene: Scene) -> Truth:
    """The caption's facts held against the scene; both counts are 0 for a caption without facts."""
    stated = stated_facts(caption)
    return Truth(len(stated), len(stated & scene_facts(scene)))


def recall(caption: str, scene: Scene) -> float:
    """Share of the scene's facts that the caption states, 0 to 1."""
    facts = scene_facts(scene)
    return len(stated_facts(caption) & facts) / len(facts)


def things_recall(caption: str, scene: Scene) -> float:
    """Share of the scene's things that the caption mentions, 0 to 1, whatever else it says of them."""
    shapes = {shape for aspect, shape, _ in stated_facts(caption) if aspect == "shape"}
    return sum(thing.shape in shapes for thing in scene.things) / len(scene.things)


def _grammar() -> re.Pattern[str]:
    colours, shapes, places = "|".join(COLOURS), "|".join(SHAPES), "|".join(PLACES)
    noun = rf"(?:an orange|a (?!orange)(?:{colours})|a(?= )) (?:{shapes})(?: (?:{places}))?"
    listed = rf"{noun}(?:(?:, {noun})* and {noun})?"
    count = "|".join(COUNTS.values())
    return re.compile(
        rf"{'|'.join(map(re.escape, EMPTY_CAPTIONS))}|There are (?:{count}) shapes\.|An image with (?:{count}) shapes\."
        rf"|There are (?:{count}) shapes: {listed}\.|There is {listed}\."
    )


_GRAMMAR = _grammar()


def grammatical(caption: str) -> bool:
    """Whether the caption is a sentence that `random_caption` could have written of some scene, and no more."""
    if _GRAMMAR.fullmatch(caption) is None:
        return False
    mentioned = [match["shape"] for match in _MENTION.finditer(caption)]
    return len(mentioned) == len(set(mentioned)) <= max(COUNTS)
