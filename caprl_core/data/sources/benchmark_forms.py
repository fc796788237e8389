"""Questions in the forms that benchmarks come in. Nothing in a row is evaluated."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

LETTERS = "ABCDEFGHIJ"
"""Of options; MMMU-Pro has ten."""

_TURN = re.compile(r"<\|im_start\|>(system|user|assistant)\n(.*?)(?:<\|im_end\|>|\Z)", re.DOTALL)
_IMAGE_TOKENS = re.compile(r"<\|vision_start\|>(?:<\|(?:image|video)_pad\|>)*<\|vision_end\|>|<image>|<\|image_pad\|>")
_CHAT_TOKEN = re.compile(r"<\|[a-z_]{2,40}\|>")


@dataclass(frozen=True, slots=True)
class Asked:
    """A question as its row has it.

    images: paths of its images, in order. id: the row's own, or None. question: the fields of a stored question but
    its id: `text`, `options`, `answers`, `system`.
    """

    images: tuple[str, ...]
    id: str | None
    image_id: str | None
    question: Mapping[str, Any]


Form = Callable[[Mapping[str, Any]], Iterator[Asked]]
"""The questions of a row. Raises `ValueError` for a row that is none of the form, saying what is wrong with it."""


def released(row: Mapping[str, Any]) -> Iterator[Asked]:
    """A row of the released evaluation files: `image` (chat messages), `prompt` (a whole chat prompt), `answer`."""
    prompt = row.get("prompt")
    if not isinstance(prompt, str):
        raise ValueError("`prompt` is no text")
    if "<|im_start|>" in prompt:
        turns = [(match[1], match[2]) for match in _TURN.finditer(prompt)]
        asked = [text for role, text in turns if role == "user"]
        if len(asked) != 1:
            raise ValueError(f"`prompt` has {len(asked)} turns of a user; one is understood")
        text = asked[0]
        system = next((text for role, text in turns if role == "system"), None)
    else:
        text, system = prompt, None
    # Left in, they would stand for a picture that the judge is not shown.
    text = _IMAGE_TOKENS.sub("", text).strip()
    if match := _CHAT_TOKEN.search(text):
        raise ValueError(f"`prompt` has the chat token {match[0]} inside the question")
    yield _asked(row, text, options=(), answers=_answers(row.get("answer")), system=system)


def plain(row: Mapping[str, Any]) -> Iterator[Asked]:
    """Our plain form: `image`, `question`, `answer` (or `answers`), `options` if any, `id` if any.

    With options the answer is the letter or the whole text of one of them.
    """
    yield _plain(row, row, row.get("answer", row.get("answers")))


def captionqa(row: Mapping[str, Any]) -> Iterator[Asked]:
    """CaptionQA: an image with `questions`, each with `question`, `choices` and `answer`; or one of them in the row.

    The order of the choices is drawn once, from the question, as its own script draws one for every question.
    """
    asked = row.get("questions", [row])
    if not isinstance(asked, list) or not all(isinstance(one, Mapping) for one in asked):
        raise ValueError("`questions` is no list of questions")
    for number, one in enumerate(asked):
        found = _plain(row, {**one, "options": one.get("choices")}, one.get("answer"))
        options = list(found.question["options"])
        if not options:
            raise ValueError(f"question {number + 1} has no `choices`")
        gold = options[LETTERS.index(found.question["answers"][0])]
        Random(f"{found.question['text']}/{gold}").shuffle(options)
        shuffled = {**found.question, "options": options, "answers": [LETTERS[options.index(gold)]]}
        own = None if found.id is None else f"{found.id}/{number}"
        yield Asked(found.images, own, found.image_id, shuffled)


def _plain(row: Mapping[str, Any], one: Mapping[str, Any], answer: Any) -> Asked:
    text = one.get("question")
    if not isinstance(text, str):
        raise ValueError("`question` is no text")
    options = one.get("options") or ()
    if not isinstance(options, Sequence) or isinstance(options, str):
        raise ValueError("`options` is no list")
    texts = tuple(_text(option, "an option") for option in options)
    if len(texts) == 1 or len(texts) > len(LETTERS):
        raise ValueError(f"{len(texts)} options: 2 to {len(LETTERS)} are possible, or none")
    if len(set(texts)) != len(texts):
        raise ValueError("two options are the same text")
    answers = _answers(answer)
    if texts:
        answers = tuple(_letter(text, texts) for text in answers)
    return _asked(row, text.strip(), options=texts, answers=answers, system=one.get("system"))


def _asked(
    row: Mapping[str, Any], text: str, *, options: tuple[str, ...], answers: tuple[str, ...], system: Any
) -> Asked:
    if not text:
        raise ValueError("the question is empty")
    own = next((str(row[name]) for name in ("id", "question_id", "qid") if isinstance(row.get(name), str | int)), None)
    image_id = row.get("image_id", row.get("id"))
    return Asked(
        images=_paths(row.get("image", row.get("images"))),
        id=own,
        image_id=str(image_id) if isinstance(image_id, str | int) else None,
        question={
            "text": text,
            "options": list(options),
            "answers": list(answers),
            "system": system if isinstance(system, str) and system.strip() else None,
        },
    )


def _letter(answer: str, options: tuple[str, ...]) -> str:
    offered = LETTERS[: len(options)]
    if answer in options and answer not in offered:
        return offered[options.index(answer)]
    letter = answer.strip().strip("().").upper()
    if len(letter) == 1 and letter in offered:
        return letter
    if answer.strip() in options:
        return offered[options.index(answer.strip())]
    raise ValueError(f"the answer {answer[:60]!r} is neither a letter of the {len(options)} options nor one's text")


def _answers(value: Any) -> tuple[str, ...]:
    found = value if isinstance(value, list) else [value]
    answers = tuple(_text(one, "an answer").strip() for one in found)
    if not answers or not all(answers):
        raise ValueError("there is no answer")
    return answers


def _text(value: Any, what: str) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        kind = "missing" if value is None else f"a {type(value).__name__}"
        raise ValueError(f"{what} is {kind}, not text")
    return value if isinstance(value, str) else repr(value)


def _paths(value: Any) -> tuple[str, ...]:
    """Image paths in a path, a list of them, or chat messages with parts of type `image`."""
    found = tuple(_walk(value, 0))
    if not found:
        raise ValueError("`image` names no image")
    # Released files hold absolute paths of their authors' machines; a root may name their beginning.
    return tuple(path.removeprefix("file://").lstrip("/") for path in found)


def _walk(value: Any, depth: int) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif depth < 6:
        if isinstance(value, list):
            for one in value:
                yield from _walk(one, depth + 1)
        elif isinstance(value, Mapping):
            if isinstance(value.get("content"), list):
                parts = [part for part in value["content"] if isinstance(part, Mapping) and part.get("type") != "text"]
                yield from _walk(parts, depth + 1)
            elif "image" in value:
                yield from _walk(value["image"], depth + 1)
            elif "path" in value:
                yield from _walk(value["path"], depth + 1)
