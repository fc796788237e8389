"""Captions of drawn pictures held against what was drawn: an independent reader, truth, grammar, coverage."""

import random
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from caprl_core.world.captions import grammatical, recall, things_recall, true_facts
from caprl_core.world.questions import scene_questions
from caprl_core.world.reading import strict_answer
from caprl_core.world.scene import Scene


@dataclass(frozen=True, slots=True)
class CaptionFigures:
    """Means over pictures, 0 to 1 but for `words`.

    strict:      share of all questions about a picture that a reader made of rules answers right from its caption.
    true:        share of the facts stated in all captions that are true; 1 where none is stated.
    grammatical: share of captions that are one sentence of the world and name no shape twice.
    recall:      share of a picture's facts that its caption states.
    things:      share of a picture's things that its caption mentions.
    words:       of a caption.
    """

    pictures: int
    strict: float
    true: float
    grammatical: float
    recall: float
    things: float
    words: float

    def as_json(self) -> dict[str, float]:
        """Rounded, as printed and stored."""
        return {name: round(value, 4) for name, value in asdict(self).items()}


def caption_figures(captions: Mapping[str, str], scenes: Mapping[str, Scene]) -> CaptionFigures:
    """Judge captions by key. Raises `KeyError` for a caption of a picture that is not among `scenes`."""
    pairs = [(caption, scenes[key]) for key, caption in captions.items()]
    count = max(1, len(pairs))
    truths = [true_facts(*pair) for pair in pairs]
    stated = sum(truth.stated for truth in truths)
    return CaptionFigures(
        pictures=len(pairs),
        strict=sum(_answered(*pair) for pair in pairs) / count,
        true=sum(truth.true for truth in truths) / stated if stated else 1.0,
        grammatical=sum(grammatical(caption) for caption, _ in pairs) / count,
        recall=sum(recall(*pair) for pair in pairs) / count,
        things=sum(things_recall(*pair) for pair in pairs) / count,
        words=sum(len(caption.split()) for caption, _ in pairs) / count,
    )


def _answered(caption: str, scene: Scene) -> float:
    # What is asked does not depend on the dice, which only lay out the options: the rule reads none of them wrongly.
    asked = scene_questions(scene, random.Random(0))
    return sum(strict_answer(caption, one.question) == one.value for one in asked) / len(asked)
