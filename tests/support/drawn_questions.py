"""Questions whose texts the released format can carry, made with a `Pen`."""

from caprl_core.qa.blocks.lines import Kind, classified
from caprl_core.qa.blocks.wording import comparable
from caprl_core.qa.question import MOST_OPTIONS, Question
from support.pen import Pen

DRESS = "*_`✓✔✅☑√✗✘❌✖×"
"""Emphasis and marks of right and wrong at the end of a text are no part of it, so the format cannot carry them."""
UNSEEN = "\ufeff\u200b\u2060"
"""Nor these at either end."""
AROUND = ('""', "''", "“”", "«»", "「」", "<>", "$$", "()", "[]")
"""Pairs that are part of a text, but not of an answer."""


def carried(line: str) -> bool:
    """A line that is plain text by itself, without emphasis at its ends and without an end of line in it."""
    return (
        bool(line)
        and line[0] not in DRESS + UNSEEN + ">"
        and line[-1] not in DRESS + UNSEEN + ")]）>\ufe0f"
        and not any(end in line for end in "\r\n")
        and "**" not in line
        and "nswer" not in line
        and classified(line).kind is Kind.TEXT
        and classified(line + "**").kind is Kind.TEXT  # a stem's last line
    )


def line(pen: Pen) -> str:
    """A line of 1 to 40 characters that is carried."""
    text = " ".join(pen.text(40).replace("*", "·").split())
    if pen.below(16) == 15:
        left, right = pen.one_of(AROUND)
        text = left + text + right
    return text if carried(text) else f"word {pen.below(256)}"


def lines(pen: Pen, most: int) -> str:
    """1 to `most` of them."""
    return "\n".join(line(pen) for _ in range(pen.between(1, most)))


def question(pen: Pen) -> Question:
    """A stem of 1 to 4 lines, 2 to 6 different options of 1 or 2."""
    options: dict[str, str] = {}
    for place in range(pen.between(2, MOST_OPTIONS)):
        text = lines(pen, 2)
        if comparable(text) in options:
            text = f"other {place}"
        options[comparable(text)] = text
    return Question(lines(pen, 4), tuple(options.values()), pen.below(len(options)))


def questions(pen: Pen, least: int, most: int) -> list[Question]:
    """`least` to `most` questions."""
    return [question(pen) for _ in range(pen.between(least, most))]
