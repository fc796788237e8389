"""A multiple-choice question about one image: what every stage of the curation hands to the next."""

import hashlib
from dataclasses import dataclass
from typing import Any

LETTERS = "ABCDEFGHI"
"""Option letters. Six options at most, and one for "cannot answer", leave two to spare."""
LEAST_OPTIONS, MOST_OPTIONS = 2, 6


@dataclass(frozen=True, slots=True)
class Question:
    """A stem, 2 to 6 different options in their stored order, and which of them is right.

    stem may have several lines; options hold no letter of their own; gold is the 0-based position of the right option.
    """

    stem: str
    options: tuple[str, ...]
    gold: int

    def __post_init__(self) -> None:
        """Raises `ValueError` for what is no question: the parsers give reasons before it comes to that."""
        if not LEAST_OPTIONS <= len(self.options) <= MOST_OPTIONS:
            raise ValueError(f"{len(self.options)} options: {LEAST_OPTIONS} to {MOST_OPTIONS} are possible")
        if not 0 <= self.gold < len(self.options):
            raise ValueError(f"gold {self.gold} is not the position of one of {len(self.options)} options")

    @property
    def answer(self) -> str:
        """The letter of the right option in the stored order."""
        return LETTERS[self.gold]

    @property
    def gold_text(self) -> str:
        """The right option's text."""
        return self.options[self.gold]


def question_id(key: str, question: Question) -> str:
    """20 hex digits, unique within a dataset and stable: the sample's key, the stem and the options in stored order."""
    text = "\0".join((key, question.stem, *question.options, question.answer))
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=10).hexdigest()


def question_fields(question: Question) -> dict[str, Any]:
    """As stored in rows: `stem`, `options`, `answer` (a letter)."""
    return {"stem": question.stem, "options": list(question.options), "answer": question.answer}


def question_of(fields: dict[str, Any]) -> Question:
    """From stored fields. Raises `ValueError`, `KeyError` or `TypeError` for fields that we did not write."""
    options = tuple(fields["options"])
    if not all(isinstance(option, str) for option in options) or not isinstance(fields["stem"], str):
        raise ValueError("stem and options must be text")
    return Question(fields["stem"], options, LETTERS.index(fields["answer"]))
