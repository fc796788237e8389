"""Which option an answer names: by letter, by text or by both. What does not agree is a fault, never a guess."""
# ruff: noqa: RUF001 - letters and punctuation of other scripts are meant

import re
from collections.abc import Sequence
from dataclasses import dataclass

from caprl_core.qa.blocks.labels import LABEL, Labels
from caprl_core.qa.blocks.wording import bare, comparable, stripped, unquoted, unwrapped
from caprl_core.qa.reasons import QuestionReason

_BOXED = re.compile(r"\\boxed\{(?:\\text\{)?([^{}]{0,600})\}{0,2}")
_LETTER = re.compile(
    r"(?:(?i:option|choice|letter|选项|選項|вариант)\s{0,3})?"
    rf"(?P<open>[(\[（［【])?\s{{0,2}}(?P<label>{LABEL})\s{{0,2}}(?(open)[)\]）］】]|)[*_`]{{0,3}}"
    r"(?P<delim>[)\]）.．:：、,，;；]|\s{0,3}[-–—](?=\s)|(?<=\s)(?=[(（]|because\b|since\b|as\b|и\b|and\b|or\b|&|/)|/|$)?"
)
_ANOTHER = re.compile(
    rf"\s{{0,2}}(?:(?:and|or|&|/|,|и|或|和)\s{{0,2}}){{0,2}}[(（]?(?P<label>{LABEL})[)）]?[\s.]{{0,3}}$"
)


@dataclass(frozen=True, slots=True)
class Fault:
    """Why something is no usable question."""

    reason: QuestionReason
    detail: str


def named_option(answer: str, labels: Labels, options: Sequence[str]) -> int | Fault:
    """Position of the option that `answer` names."""
    boxed = _BOXED.search(answer[:2000])
    plain = boxed[1].strip() if boxed is not None else unquoted(unwrapped(answer).lstrip(" *_`"))
    if not stripped(answer):
        return Fault(QuestionReason.NO_ANSWER, "the answer is blank")
    texts = [bare(option) for option in options]
    exact = comparable(answer)
    whole = {place for place, option in enumerate(options) if comparable(option) == exact}
    whole = whole or {place for place, text in enumerate(texts) if text == bare(plain)}
    lettered = _by_letter(plain, labels, texts)
    if isinstance(lettered, int):
        if not whole or lettered in whole:
            return lettered
        return Fault(QuestionReason.ANSWER_CONTRADICTS, f"{plain[:80]!r} is one option's letter and another's text")
    if len(whole) == 1:
        return whole.pop()
    if whole:
        return Fault(QuestionReason.EQUAL_OPTIONS, f"the answer is the text of {len(whole)} options")
    return lettered


def _by_letter(plain: str, labels: Labels, texts: Sequence[str]) -> int | Fault:  # noqa: PLR0911 - one return for each case
    """The option whose letter the answer begins with, if nothing after the letter speaks for another one."""
    nothing = Fault(QuestionReason.ANSWER_NOT_AN_OPTION, f"{plain[:120]!r} names no option")
    match = _LETTER.match(plain)
    if match is None or (match["delim"] is None and match["open"] is None):
        return nothing
    place = labels.position(match["label"])
    if place is None:
        return nothing
    rest = plain[match.end() :].strip()
    said = bare(rest)
    if not said or said == texts[place]:
        return place
    other = _ANOTHER.match(rest)
    if other is not None and labels.position(other["label"]) not in (None, place):
        return Fault(QuestionReason.ANSWER_CONTRADICTS, f"{plain[:120]!r} names two options")
    if said in texts:
        return Fault(QuestionReason.ANSWER_CONTRADICTS, f"letter and text of {plain[:120]!r} name different options")
    # A text cut short, or one with an explanation after it.
    if texts[place].startswith(said) or said.startswith(texts[place]):
        return place
    if (match["delim"] or "").strip() in ("", "-", "–", "—", ",", "，", ";", "；"):
        return place  # "C (upper left)", "C, because …": an explanation, not the option's text
    return Fault(QuestionReason.ANSWER_CONTRADICTS, f"the text of {plain[:120]!r} is not that of its option")
