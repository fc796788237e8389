"""Which questions a caption is asked, and in which order of their options: seeded draws."""

from collections.abc import Sequence
from math import factorial
from typing import NamedTuple

from caprl_core.qa.question import Question
from caprl_core.qa.rotation import EXTRA, Order, arranged
from caprl_core.qa.seeded_numbers import SeededNumbers


class Draw(NamedTuple):
    """One draw: the place of a question among its image's, and the order its options are shown in."""

    question: int
    order: Order


def draw_questions(
    questions: Sequence[Question],
    count: int,
    numbers: SeededNumbers,
    *,
    replacement: bool,
    shuffle: bool,
    abstain: str | None,
) -> list[Draw]:
    """`count` draws (equation 3 of the paper), uniform and independent; none where there are no questions.

    Without replacement each question comes once at most, so there are no more draws than questions. Every order of a
    question's options is equally likely; unshuffled they stand as stored. The abstaining option is always last, and is
    left out where the question has an option of that text. A longer list begins with the shorter one.
    """
    left = list(range(len(questions)))
    drawn: list[Draw] = []
    while left and len(drawn) < count:
        place = numbers.below(len(left))
        chosen = left[place] if replacement else left.pop(place)
        drawn.append(Draw(chosen, _order(questions[chosen], numbers, shuffle=shuffle, abstain=abstain)))
    return drawn


def caption_numbers(seed: int, step: int, key: str, caption: str) -> SeededNumbers:
    """The numbers that decide a caption's draws: equal captions of an image are asked the same in a step."""
    # The length keeps (key, caption) apart from other splits of the same text.
    return SeededNumbers(f"{seed}\0{step}\0{len(key)}\0{key}{caption}")


def _order(question: Question, numbers: SeededNumbers, *, shuffle: bool, abstain: str | None) -> Order:
    size = len(question.options)
    order = tuple(arranged(numbers.below(factorial(size)), range(size)) if shuffle else range(size))
    offered = abstain is not None and abstain.strip().casefold() not in {
        option.strip().casefold() for option in question.options
    }
    return (*order, EXTRA) if offered else order
