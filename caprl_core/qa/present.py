"""A question and an order of its options, as text for the model."""

from dataclasses import dataclass

from caprl_core.qa.question import LETTERS, Question
from caprl_core.qa.rotation import EXTRA, Order

PLACE = "{question}"
"""Where the question goes in an answerer's prompt."""


@dataclass(frozen=True, slots=True)
class Presented:
    """What the model reads: the text, and the options' texts in the order shown (the first is A)."""

    text: str
    options: tuple[str, ...]

    @property
    def letters(self) -> tuple[str, ...]:
        """The letters offered."""
        return tuple(LETTERS[: len(self.options)])


def presented(question: Question, order: Order, extra_text: str | None) -> Presented:
    """The stem, then one `A) text` line an option.

    The options come last, so that all orders of a question share the prefix an engine caches. Raises `ValueError` if
    the order shows an extra option and there is no text for it.
    """
    shown = []
    for place in order:
        if place != EXTRA:
            shown.append(question.options[place])
        elif extra_text is not None:
            shown.append(extra_text)
        else:
            raise ValueError("the order shows an extra option, which has no text")
    lines = [question.stem, *(f"{letter}) {text}" for letter, text in zip(LETTERS, shown, strict=False))]
    return Presented("\n".join(lines), tuple(shown))


def prompt_with(template: str, question_text: str) -> str:
    """An answerer's prompt with the question in its place, or after it where it names none."""
    before, place, after = template.partition(PLACE)
    if not place:
        return f"{question_text}\n{template}"
    return before + question_text + after
