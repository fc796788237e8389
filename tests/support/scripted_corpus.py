"""The script that covers everything: every kind of reply, every reason, every behaviour, in 36 pictures."""

from itertools import count

from caprl_core.qa.reasons import QuestionReason
from support.scripted_images import Behaviour, ScriptedImage, ScriptedQuestion, Style

_PLACES = ("harbour", "market", "station", "orchard", "bridge", "school", "bakery", "library", "garden", "mill")
_SUBJECTS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("What colour is the door of the {place}{which}?", ("red", "green", "blue", "yellow", "grey", "purple")),
    ("How many lamps hang in the {place}{which}?", ("two", "three", "five", "seven", "nine", "eleven")),
    ("Which animal sleeps beside the {place}{which}?", ("a cat", "a dog", "a goat", "a hen", "a horse", "a duck")),
    ("What is the roof of the {place}{which} made of?", ("tiles", "straw", "tin", "slate", "glass", "wood")),
    ("Who walks towards the {place}{which}?", ("a postman", "a nurse", "a farmer", "two children", "a monk", "a cook")),
)
_ORDINALS = ("", " on the left", " on the right", " in the middle", " at the top")

FAULTS = (
    QuestionReason.EQUAL_OPTIONS,
    QuestionReason.ANSWER_CONTRADICTS,
    QuestionReason.GOLD_IS_ALL_OR_NONE,
    QuestionReason.NAMES_CAPTION,
    QuestionReason.NAMES_LETTER,
    QuestionReason.OPTION_REPEATS_STEM,
    QuestionReason.TOO_FEW_OPTIONS,
    QuestionReason.TOO_MANY_OPTIONS,
    QuestionReason.NO_ANSWER,
    QuestionReason.ANSWER_NOT_AN_OPTION,
    QuestionReason.NO_STEM,
    QuestionReason.DUPLICATE,
)
"""What the script's blocks do wrong; `cut`, `unreadable` and `over_limit` come with whole blocks."""


class _Author:
    """Makes questions whose stems never repeat."""

    def __init__(self) -> None:
        self._serial = count()

    def question(
        self, behaviour: Behaviour = "needs_image", fault: QuestionReason | None = None, options: int = 4
    ) -> ScriptedQuestion:
        serial = next(self._serial)
        stem, texts = _SUBJECTS[serial % len(_SUBJECTS)]
        which, place = divmod(serial // len(_SUBJECTS), len(_PLACES))
        turn = serial % len(texts)
        shown = (*texts[turn:], *texts[:turn])[:options]
        # 7 is prime to every number of options, so that every position is gold in turn.
        return ScriptedQuestion(
            stem.format(place=_PLACES[place], which=_ORDINALS[which]), shown, serial * 7 % options, behaviour, fault
        )

    def questions(self, *behaviours: Behaviour) -> tuple[ScriptedQuestion, ...]:
        return tuple(self.question(behaviour) for behaviour in behaviours)


def scripted_images() -> tuple[ScriptedImage, ...]:
    """Always the same 36 images."""
    author = _Author()
    styles: tuple[Style, ...] = ("released", "lettered", "bracketed", "stacked", "fenced")
    numbers = count()
    images = [
        ScriptedImage(
            next(numbers), author.questions("needs_image", "leaky", "needs_image", "too_hard", "flaky"), style=style
        )
        for style in styles
    ]
    pairs: tuple[tuple[Behaviour, Style], ...] = (
        ("letter_biased", "released"),
        ("mumbles", "bracketed"),
        ("fails", "lettered"),
    )
    images += [
        ScriptedImage(next(numbers), author.questions("needs_image", behaviour), style=style)
        for behaviour, style in pairs
    ]
    images += [
        ScriptedImage(next(numbers), (author.question(options=options), author.question("leaky", options=options)))
        for options in (2, 3, 5, 6)
    ]
    images += [
        ScriptedImage(next(numbers), (author.question(), author.question(fault=fault), author.question("too_hard")))
        for fault in FAULTS
    ]
    nothing_left = (author.question(fault=QuestionReason.EQUAL_OPTIONS),)
    cut = (*author.questions("needs_image", "leaky"), author.question(fault=QuestionReason.CUT))
    six = author.questions("needs_image", "needs_image", "leaky", "leaky", "too_hard", "too_hard")
    images += [
        ScriptedImage(next(numbers), nothing_left),
        ScriptedImage(next(numbers), cut),
        ScriptedImage(next(numbers), (*six, author.question())),
        ScriptedImage(next(numbers), author.questions("needs_image", "too_hard"), kind="refusal_once"),
        ScriptedImage(next(numbers), kind="refusal"),
        ScriptedImage(next(numbers), kind="empty"),
        ScriptedImage(next(numbers), kind="chatter"),
        ScriptedImage(next(numbers), kind="server_error"),
        ScriptedImage(next(numbers), kind="too_long"),
        ScriptedImage(next(numbers), kind="broken"),
    ]
    # The far end of the numbers, so that every cell of the strip is in use.
    return (*images, *(ScriptedImage(number, author.questions("needs_image")) for number in (170, 255)))
