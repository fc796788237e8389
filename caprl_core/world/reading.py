"""A reader made of rules: what a caption says in our own words, taken literally. It never guesses.

It decides what the tiny reader is taught, and stands beside it as the independent one: a policy may learn to please a
model, it cannot please a rule.
"""

import re
from typing import Literal

from caprl_core.qa.question import Question
from caprl_core.world.captions import stated_facts
from caprl_core.world.scene import COLOURS, PLACES, SHAPES

Asks = Literal["colour", "where", "what", "which", "count", "leaky"]
"""What is asked: the colour of a shape, its place, the shape in a place, the shape of a colour, the number of shapes;
leaky: the colour of a shape, by a stem that names it."""

_STEM = re.compile(
    rf"What colour is the (?:(?P<leaky>{'|'.join(COLOURS)}) )?(?P<colour>{'|'.join(SHAPES)})\?"
    rf"|Where is the (?P<where>{'|'.join(SHAPES)})\?"
    rf"|Which shape is (?:(?P<what>{'|'.join(PLACES)})|(?P<which>{'|'.join(COLOURS)}))\?"
    r"|What is the number of (?P<count>shapes)\?"
)


def asked_about(stem: str) -> tuple[Asks, str] | None:
    """What a stem asks, and about what; None for a stem that is not of `questions.py`."""
    match = _STEM.fullmatch(stem)
    if match is None:
        return None
    if match["leaky"] is not None:
        return "leaky", match["colour"]
    if match["colour"] is not None:
        return "colour", match["colour"]
    if match["where"] is not None:
        return "where", match["where"]
    if match["what"] is not None:
        return "what", match["what"]
    return ("which", match["which"]) if match["which"] is not None else ("count", match["count"])


def strict_answer(caption: str, question: Question) -> str | None:
    """The option's text that the caption states as the answer; None if it states none, or several.

    A caption that contradicts itself about what is asked answers nothing; nor does one whose answer is no option.
    """
    answer = stated_answer(caption, question.stem)
    return answer if answer in question.options else None


def stated_answer(caption: str, stem: str) -> str | None:
    """The one answer that a caption states, whatever the options are; None if it states none, or several."""
    asked = asked_about(stem)
    if asked is None:
        return None
    said = _said(caption, *asked, stem)
    return said.pop() if len(said) == 1 else None


def _said(caption: str, asks: Asks, subject: str, stem: str) -> set[str]:
    facts = stated_facts(caption)
    match asks:
        case "leaky":
            return {colour for colour in COLOURS if f" {colour} " in stem}
        case "colour":
            return {value for aspect, shape, value in facts if aspect == "colour" and shape == subject}
        case "where":
            return {value for aspect, shape, value in facts if aspect == "place" and shape == subject}
        case "what":
            return {shape for aspect, shape, value in facts if aspect == "place" and value == subject}
        case "which":
            return {shape for aspect, shape, value in facts if aspect == "colour" and value == subject}
        case "count":
            return {value for aspect, _, value in facts if aspect == "count"}
