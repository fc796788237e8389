"""The filter: from the votes on an image's questions to one verdict a question. Pure: no model, no store."""

import hashlib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Literal, NamedTuple

from caprl_core.qa.evidence import blind_pass_chance, interval, is_above, is_below
from caprl_core.qa.question import LETTERS
from caprl_core.qa.reasons import QuestionReason
from caprl_core.recipe.qa import FilterRecipe

Split = Literal["train", "held_out"]
SPLITS: tuple[Split, ...] = ("train", "held_out")

USABLE_SHARE = 0.5
"""Share of a branch's votes that must not have failed: an accuracy of what is left would be a matter of luck."""


class Evidence(NamedTuple):
    """What the votes of one branch say.

    correct, votes: right votes and votes without failure; failed: the others. accuracy: correct / votes, or the mean
    probability of the right letter where votes carry one; None without votes. low, high: the exact interval of the
    accuracy; None where accuracy is a mean of probabilities, for which no binomial interval holds.
    """

    correct: int
    votes: int
    failed: int
    accuracy: float | None
    low: float | None
    high: float | None


class ImageFacts(NamedTuple):
    """What the filter needs to know of an image: its digest (hex), and whether it must not be trained on."""

    sha256: str
    contaminated: bool = False


class Verdict(NamedTuple):
    """What became of one question.

    reason is None for a kept question, and only such a one has a split. blind_chance: how probably a guesser among the
    letters offered without the image passes the text filter; None where no such chance can be given. place: 0-based
    position the right option is to have.
    """

    id: str
    reason: QuestionReason | None
    split: Split | None
    visual: Evidence
    text: Evidence
    blind_chance: float | None
    place: int

    @property
    def kept(self) -> bool:
        """True when the question is part of the curated set."""
        return self.reason is None


def decide(questions: Sequence[Mapping[str, Any]], image: ImageFacts, recipe: FilterRecipe) -> list[Verdict]:
    """One verdict a question, in their order. `questions` are one image's, as the answer stage stores them.

    A question gets the first reason that holds: unanswered, seen too rarely, guessed too often, uncertain, contaminated
    image, beyond the image's cap. The cap keeps the best evidence: highest visual accuracy, then lowest text accuracy,
    then stored order. Raises `KeyError` or `TypeError` for questions that we did not write.
    """
    seen = [_evidence(question["visual"], recipe.level) for question in questions]
    blind = [_evidence(question["text"], recipe.level) for question in questions]
    reasons = [_fault(visual, text, recipe) for visual, text in zip(seen, blind, strict=True)]
    passing = [number for number, reason in enumerate(reasons) if reason is None]
    if passing and image.contaminated:
        for number in passing:
            reasons[number] = QuestionReason.CONTAMINATED
    elif recipe.per_image is not None and len(passing) > recipe.per_image:
        # Stable, so the stored order decides among equals; who passes has accuracies.
        passing.sort(key=lambda number: (-(seen[number].accuracy or 0.0), blind[number].accuracy or 0.0))
        for number in passing[recipe.per_image :]:
            reasons[number] = QuestionReason.OVER_CAP
    split = split_of(image.sha256, recipe) if passing else None
    return [
        Verdict(
            question["id"],
            reason,
            split if reason is None else None,
            visual,
            text,
            _blind_chance(question["text"], text, recipe),
            _place(question, recipe) if reason is None else LETTERS.index(question["answer"]),
        )
        for question, reason, visual, text in zip(questions, reasons, seen, blind, strict=True)
    ]


def split_of(image_sha256: str, recipe: FilterRecipe) -> Split:
    """The side an image falls on, by its content: copies of an image, whatever their names, are never parted."""
    if recipe.held_out == 0:
        return "train"
    return "held_out" if _draw(f"split/{recipe.seed}/{image_sha256}") < recipe.held_out * 2**64 else "train"


def arranged(question: Mapping[str, Any], place: int) -> list[str]:
    """The options with the right one at `place`; the others keep their order."""
    options = list(question["options"])
    gold = options.pop(LETTERS.index(question["answer"]))
    options.insert(place, gold)
    return options


def _place(question: Mapping[str, Any], recipe: FilterRecipe) -> int:
    if recipe.balance == "keep":
        return LETTERS.index(question["answer"])
    return _draw(f"place/{recipe.seed}/{question['id']}") % len(question["options"])


def _draw(text: str) -> int:
    """64 uniform bits that depend on the text alone."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


def _fault(visual: Evidence, text: Evidence, recipe: FilterRecipe) -> QuestionReason | None:
    """What the evidence of both branches says against a question."""
    for branch in (visual, text):
        if branch.votes == 0 or branch.votes < USABLE_SHARE * (branch.votes + branch.failed):
            return QuestionReason.UNANSWERED
    if visual.accuracy is None or not is_above(visual.accuracy, recipe.visual_above, recipe.visual_inclusive):
        return QuestionReason.VISUAL_TOO_LOW
    if text.accuracy is None or not is_below(text.accuracy, recipe.text_below, recipe.text_inclusive):
        return QuestionReason.TEXT_TOO_HIGH
    if recipe.confident and not (
        visual.low is not None
        and is_above(visual.low, recipe.visual_above, recipe.visual_inclusive)
        and text.high is not None
        and is_below(text.high, recipe.text_below, recipe.text_inclusive)
    ):
        return QuestionReason.UNCERTAIN
    return None


def _evidence(votes: Sequence[Mapping[str, Any]], level: float) -> Evidence:
    correct = usable = 0
    probabilities = None
    for vote in votes:
        if vote["failure"] is None:
            usable += 1
            correct += vote["correct"]
            if (probability := vote["gold_p"]) is not None:
                probabilities = (probabilities or 0.0) + probability
    if probabilities is None:
        return _counted(correct, usable, len(votes) - usable, level)
    return Evidence(correct, usable, len(votes) - usable, min(1.0, probabilities / usable), None, None)


@lru_cache(maxsize=4096)
def _counted(correct: int, votes: int, failed: int, level: float) -> Evidence:
    if votes == 0:
        return Evidence(correct, votes, failed, None, None, None)
    return Evidence(correct, votes, failed, correct / votes, *interval(correct, votes, level))


def _blind_chance(votes: Sequence[Mapping[str, Any]], text: Evidence, recipe: FilterRecipe) -> float | None:
    """None for probabilities: a guesser without a preference always has the same."""
    if text.low is None or not votes:
        return None
    return blind_pass_chance(text.votes, len(votes[0]["order"]), recipe.text_below, recipe.text_inclusive)
