"""From the pieces a reply was taken apart into to a question, or to the reason why it is none."""
# ruff: noqa: RUF001 - letters and punctuation of other scripts are meant

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from caprl_core.qa.blocks.gold import Fault, named_option
from caprl_core.qa.blocks.labels import FAMILIES, Labels, folded, places
from caprl_core.qa.blocks.lines import ANSWER_WORDS, Kind, classified
from caprl_core.qa.blocks.pieces import Piece, Scanner
from caprl_core.qa.blocks.wording import comparable, stripped, unwrapped
from caprl_core.qa.question import LEAST_OPTIONS, MOST_OPTIONS, Question
from caprl_core.qa.reasons import QuestionReason

_INLINE_ANSWER = re.compile(
    rf"(?:(?<=[\s*_(\[（【。，.;；])|^)[*_(\[（【]{{0,3}}(?i:the\s)?(?i:{ANSWER_WORDS})[*_\]】]{{0,3}}\s?(?:[:：]|is\b|是)"
)
_RIGHT = re.compile(
    r"[\s*_]{0,4}(?:[✓✔✅☑√](?:\ufe0f)?"
    r"|[(\[（<←-]{1,2}\s?(?i:correct(?:\s(?:answer|option|choice))?|right(?:\sanswer)?|正确(?:答案)?|正解|правильный(?:\sответ)?|верно)"
    r"[)\]）>]?)[\s*_]{0,4}$"
)
_WRONG = re.compile(r"[\s*_]{0,4}(?:[✗✘❌✖×](?:\ufe0f)?|[(\[（](?i:incorrect|wrong|错误|неверно)[)\]）])[\s*_]{0,4}$")
MOST_LINES = 4000
"""Lines of a block that are read (a question takes 8, 2,048 tokens give no more than 2,048): 0.2 s at the worst."""
LINE_ENDS = re.compile(r"\r\n|\r|\n")
_BETWEEN = " \t,;|/，；、"


@dataclass(frozen=True, slots=True)
class Option:
    """An option as written: its label (empty for a bare bullet), its text, and whether its box is ticked."""

    label: str
    text: str
    ticked: bool = False


@dataclass(frozen=True, slots=True)
class Draft:
    """What was found of one question; `answers` are all that were given for it."""

    stem: str
    options: tuple[Option, ...]
    answers: tuple[str, ...]


def draft_of_piece(piece: Piece) -> Draft:
    """The lines of a piece put together."""
    options = tuple(Option(option.label, "\n".join(option.lines), option.ticked) for option in piece.options)
    return Draft("\n".join(piece.stem).strip(), options, tuple(piece.answers))


def draft_of_text(text: str) -> Draft:
    """A text that is known to be one question: its stem and option lines, whatever numbers stand in them."""
    pieces = Scanner(LINE_ENDS.split(text, maxsplit=MOST_LINES), single=True).pieces()
    return draft_of_piece(pieces[0]) if pieces else Draft("", (), ())


def settled(draft: Draft) -> Question | Fault:  # noqa: PLR0911 - one return for each case
    """The question of a draft, or the first thing that is wrong with it."""
    draft = _with_inline_parts(draft)
    options, answers = draft.options, draft.answers
    options, marked = _without_verdicts(options)
    labels = Labels([option.label for option in options])
    stem = unwrapped(draft.stem)
    texts = [unwrapped(option.text) for option in options]
    if not stem:
        return Fault(QuestionReason.NO_STEM, f"{len(options)} options and no question")
    if len(options) < LEAST_OPTIONS:
        return Fault(QuestionReason.TOO_FEW_OPTIONS, f"{len(options)} options")
    if len(options) > MOST_OPTIONS:
        return Fault(QuestionReason.TOO_MANY_OPTIONS, f"{len(options)} options")
    if not labels.distinct:
        return Fault(QuestionReason.UNREADABLE, "two options bear the same label")
    if not all(texts):
        return Fault(QuestionReason.UNREADABLE, f"option {texts.index('') + 1} is blank")
    named = [named_option(answer, labels, texts) for answer in answers if stripped(answer)]
    if marked is not None:
        named.append(marked)
    if not named:
        return Fault(QuestionReason.NO_ANSWER, "no answer is given")
    for found in named:
        if isinstance(found, Fault):
            return found
        if found != named[0]:
            return Fault(QuestionReason.ANSWER_CONTRADICTS, "two answers name different options")
    gold = named[0]
    assert isinstance(gold, int)  # noqa: S101 - the loop has returned every fault
    return Question(stem, tuple(texts), gold)


def without_labels(choices: Sequence[str]) -> tuple[Option, ...]:
    """Options of a list whose texts may bear labels of their own, `A) red` or `A. red`: all in order, or none."""
    read = [classified(choice.split("\n", 1)[0]) for choice in choices]
    bearing = [
        line.kind in (Kind.OPTION, Kind.NUMBER) and place in places(line.label) for place, line in enumerate(read)
    ]
    if not choices or not all(bearing):
        return tuple(Option("", stripped(choice)) for choice in choices)
    rests = ["\n".join([line.text, *choice.split("\n")[1:]]) for line, choice in zip(read, choices, strict=True)]
    return tuple(Option(line.label, stripped(rest)) for line, rest in zip(read, rests, strict=True))


def _with_inline_parts(draft: Draft) -> Draft:
    """Options and answers that stand within other lines are moved to where they belong."""
    following = [option.label for option in draft.options[1:]]
    parts = [_split(option, after) for option, after in zip(draft.options, [*following, None], strict=False)]
    if len(parts) > 1 and all(len(part) == 1 for part in parts[:-1]):
        parts[-1] = [draft.options[-1]]  # where the other lines hold one option each, "D) Robert E. Lee" is one too
    options = [option for part in parts for option in part]
    stem = draft.stem
    if not options:
        stem, options = _from_stem(stem)
    answers = draft.answers
    if options and not answers and (match := _INLINE_ANSWER.search(options[-1].text)) is not None:
        text = options[-1].text
        answers = (text[match.end() :].strip(" *_"),)
        options[-1] = replace(options[-1], text=text[: match.start()].rstrip(_BETWEEN + "*_(["))
    doubled = without_labels([option.text for option in options])
    if len(options) >= LEAST_OPTIONS and all(
        inner.label and folded(inner.label) == folded(option.label)
        for inner, option in zip(doubled, options, strict=True)
    ):
        options = [replace(option, text=inner.text) for inner, option in zip(doubled, options, strict=True)]
    return Draft(stem, tuple(options), answers)


def _split(option: Option, after: str | None) -> list[Option]:
    """An option whose line holds the following ones too, as the gap before the next label tells."""
    series = next((family for family in FAMILIES if folded(option.label) in family), None)
    if series is None or "\n" in option.text:
        return [option]
    begin = series.index(folded(option.label)) + 1
    end = series.index(folded(after)) if after is not None and folded(after) in series else len(series)
    found, text = [option.label], option.text
    cuts = [0]
    texts: list[str] = []
    position = 0
    for label in series[begin:end]:
        marker = _marker(label).search(text, position)
        if marker is None:
            break
        texts.append(text[cuts[-1] : marker.start()].rstrip(_BETWEEN))
        cuts.append(marker.end())
        found.append(marker["label"])
        position = marker.end()
    texts.append(text[cuts[-1] :].strip())
    whole = after is None or len(found) == end - begin + 1
    if len(found) == 1 or not whole or not all(texts):
        return [option]
    return [Option(label, unwrapped(piece)) for label, piece in zip(found, texts, strict=True)]


def _marker(label: str) -> re.Pattern[str]:
    capital = f"{label}{label.upper()}"
    return re.compile(
        rf"(?<=[\s,;|/，；、])[*_]{{0,2}}[(\[（]?(?P<label>{label}|[{capital}])[*_]{{0,2}}(?:[)\]）、]|[.．:：](?=\s|[^\x00-\x7f]))[*_]{{0,2}}"
    )


def _from_stem(stem: str) -> tuple[str, list[Option]]:
    """`What colour? A) red B) blue` taken apart; capital letters, or at least three small ones."""
    *lines, last = stem.split("\n")
    match = _marker("a").search(" " + last)
    if match is None:
        return stem, []
    options = _split(Option(match["label"], (" " + last)[match.end() :].strip()), None)
    if len(options) < (LEAST_OPTIONS if match["label"] == "A" else 3):
        return stem, []
    return "\n".join([*lines, (" " + last)[: match.start()].strip(_BETWEEN)]).strip(), options


def _without_verdicts(options: tuple[Option, ...]) -> tuple[tuple[Option, ...], int | None]:
    """Marks of right and wrong (`✓`, `(correct)`, a ticked box) are no part of a text; a single right one counts."""
    right = [place for place, option in enumerate(options) if option.ticked or _cleared(_RIGHT, option) is not None]
    if len(right) != 1:
        return options, None
    plain = []
    for place, option in enumerate(options):
        cleared = _cleared(_RIGHT if place == right[0] else _WRONG, option)
        plain.append(option if cleared is None else replace(option, text=cleared))
    return tuple(plain), right[0]


def _cleared(mark: re.Pattern[str], option: Option) -> str | None:
    """The option's text without such a mark at its end; None if there is none or nothing else."""
    tail = option.text[-40:]
    match = mark.search(tail)
    if match is None:
        return None
    text = option.text[: len(option.text) - len(tail) + match.start()].strip()
    return text if comparable(text) else None
