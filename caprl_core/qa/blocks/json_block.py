"""Replies that are JSON instead of text: a list of questions, one object a line, or a list cut at its end."""
# ruff: noqa: RUF001 - letters and punctuation of other scripts are meant

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from caprl_core.qa.blocks.drafts import Draft, Option, draft_of_text, without_labels
from caprl_core.qa.blocks.gold import Fault
from caprl_core.qa.reasons import QuestionReason

STEM_KEYS = ("question", "stem", "question_text", "prompt", "query", "q", "problem", "问题", "題目", "题目", "вопрос")
OPTION_KEYS = ("options", "choices", "option", "choice", "answers", "选项", "選項", "варианты")
ANSWER_KEYS = ("answer", "correct_answer", "correct", "correct_option", "correct_choice", "answer_letter",
               "right_answer", "gold", "label", "solution", "答案", "正确答案", "ответ")  # fmt: skip
_INDEX_KEYS = ("answer_index", "correct_index", "answer_idx")
_TEXT_KEYS = ("text", "value", "content", "option", "choice")
_LABEL_KEYS = ("label", "letter", "key", "id", "option_letter")

SOURCE_CHARACTERS = 4000
"""More of an item is never shown."""

_START = re.compile(r"^[ \t]*+(?=\[\s{0,40}\{|\{\s{0,40}\"|\[\s{0,40}\])", re.MULTILINE)
_BETWEEN = re.compile(r"[\s,\[]*")
_END = re.compile(r"[\s\]}`,]*")


@dataclass(frozen=True, slots=True)
class JsonReply:
    """The questions of a JSON reply, and the text around it; `broken` tells that its end could not be read."""

    pieces: list[tuple[Draft | Fault, str]]
    before: str
    after: str
    broken: bool


def json_drafts(text: str, most: int) -> JsonReply | None:
    """What a JSON reply holds, the first `most` items of it; None for one that is not JSON with questions in it."""
    start = _START.search(text)
    if start is None or "?" in text[: start.start()] or "？" in text[: start.start()]:
        return None
    values, end, broken = _values(text, start.end())
    pieces: list[tuple[Draft | Fault, str]] = []
    seen = False
    for value in values:
        for item in islice(_items(value), max(0, most - len(pieces))):
            seen = seen or (isinstance(item, dict) and first_of(item, STEM_KEYS) is not None)
            pieces.append((draft_of(item), source_of(item)))
    if broken:
        pieces.append((Fault(QuestionReason.UNREADABLE, "the JSON ends or breaks here"), text[end:]))
    if not seen:
        return None
    return JsonReply(pieces, text[: start.start()], "" if broken else text[_end_of(_END, text, end) :], broken)


def draft_of(item: Any) -> Draft | Fault:
    """One object as a question; every field may be missing or of any type."""
    if not isinstance(item, dict):
        return Fault(QuestionReason.UNREADABLE, f"{type(item).__name__} instead of an object")
    stem = first_of(item, STEM_KEYS)
    if not isinstance(stem, str):
        return Fault(QuestionReason.NO_STEM, "no text of a question")
    options = _options(first_of(item, OPTION_KEYS), item)
    if isinstance(options, Fault):
        return options
    within: tuple[str, ...] = ()
    if not options:
        whole = draft_of_text(stem)
        stem, options, within = whole.stem, whole.options, whole.answers
    answer = first_of(item, ANSWER_KEYS)
    index = first_of(item, _INDEX_KEYS)
    if isinstance(answer, list) and len(answer) == 1:
        answer = answer[0]
    if answer is None and isinstance(index, int) and not isinstance(index, bool):
        if not 0 <= index < len(options):
            return Fault(QuestionReason.ANSWER_NOT_AN_OPTION, f"index {index} of {len(options)} options")
        answer = options[index].text
    elif isinstance(answer, int | float) and not isinstance(answer, bool):
        # A number alone may count from 0 or from 1; as a text or a label it is clear.
        answer = str(answer)
    elif isinstance(answer, dict):
        answer = ") ".join(str(part) for part in (first_of(answer, _LABEL_KEYS), first_of(answer, _TEXT_KEYS)) if part)
    if answer is not None and not isinstance(answer, str):
        return Fault(QuestionReason.ANSWER_NOT_AN_OPTION, f"the answer is a {type(answer).__name__}")
    return Draft(stem.strip(), options, within if answer is None else (*within, answer))


def first_of(item: dict[Any, Any], names: tuple[str, ...]) -> Any:
    """The value of the first of these keys, whatever their case; None if there is none."""
    folded = {key.casefold().replace(" ", "_"): value for key, value in item.items() if isinstance(key, str)}
    return next((folded[name] for name in names if folded.get(name) is not None), None)


def _options(value: Any, item: dict[Any, Any]) -> tuple[Option, ...] | Fault:  # noqa: PLR0911 - one return for each case
    if value is None:
        letters = [(key, item[key]) for key in item if isinstance(key, str) and key.upper() in tuple("ABCDEFGHI")]
        value = dict(letters)
    if isinstance(value, dict):
        if not all(isinstance(text, str | int | float) for text in value.values()):
            return Fault(QuestionReason.UNREADABLE, "options that are not text")
        return tuple(Option(str(label), str(text)) for label, text in value.items())
    if isinstance(value, str):
        return without_labels([line for line in value.splitlines() if line.strip()])
    if not isinstance(value, list):
        return Fault(QuestionReason.UNREADABLE, f"options are a {type(value).__name__}")
    options: list[Option] = []
    for entry in value:
        if isinstance(entry, dict):
            text, label = first_of(entry, _TEXT_KEYS), first_of(entry, _LABEL_KEYS)
            if text is None and len(entry) == 1:
                label, text = next(iter(entry.items()))
            options.append(Option("" if label is None else str(label), "" if text is None else str(text)))
        elif isinstance(entry, str | int | float) and not isinstance(entry, bool):
            options.append(Option("", str(entry)))
        else:
            return Fault(QuestionReason.UNREADABLE, f"an option is a {type(entry).__name__}")
    if all(option.label == "" for option in options):
        return without_labels([option.text for option in options])
    return tuple(options)


def _items(value: Any) -> Iterator[Any]:
    """A list's objects, also when one object holds the list."""
    if isinstance(value, list):
        yield from value
        return
    if isinstance(value, dict) and first_of(value, STEM_KEYS) is None:
        lists = [inner for inner in value.values() if isinstance(inner, list)]
        objects = [inner for inner in value.values() if isinstance(inner, dict)]
        if lists or objects:
            for inner in lists:
                yield from inner
            yield from objects
            return
    yield value


def _values(text: str, start: int) -> tuple[list[Any], int, bool]:
    """The JSON values from `start` on, where they end, and whether something unreadable follows."""
    decoder = json.JSONDecoder()
    whole = _decoded(decoder, text, start)
    if whole is not None and text[start] == "[":
        return [whole[0]], whole[1], False
    position = start
    if whole is None and text[start] == "{" and (inner := text.find("[", start, start + 200)) > 0:
        position = inner  # {"questions": [ … cut
    found: list[Any] = []
    while True:
        position = _end_of(_BETWEEN, text, position)
        if text[position : position + 1] != "{":
            return found, position, False
        value = _decoded(decoder, text, position)
        if value is None:
            return found, position, True
        found.append(value[0])
        position = value[1]


def _decoded(decoder: json.JSONDecoder, text: str, position: int) -> tuple[Any, int] | None:
    try:
        value, end = decoder.raw_decode(text, position)
    except (ValueError, RecursionError):  # broken, numbers of thousands of digits, or nested too deeply
        return None
    return value, end


def _end_of(pattern: re.Pattern[str], text: str, position: int) -> int:
    match = pattern.match(text, position)
    return position if match is None else match.end()


def source_of(item: Any) -> str:
    """An item as JSON text again, to be shown beside the reason it was refused."""
    try:
        return json.dumps(item, ensure_ascii=False, default=str)[:SOURCE_CHARACTERS]
    except (ValueError, RecursionError):
        return f"a {type(item).__name__} that is no JSON"
