"""Curated questions by image: our own sets (JSON lines or parquet), and CapRL-QA-75K."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import pyarrow.parquet as pq

from caprl_core.data.files.reader import Files
from caprl_core.data.row import clean_text
from caprl_core.data.sources import parquet
from caprl_core.data.sources.json_rows import json_rows
from caprl_core.errors import BadInputError
from caprl_core.qa.blocks.imported import imported_questions
from caprl_core.qa.question import LEAST_OPTIONS, LETTERS, MOST_OPTIONS, Question, question_of
from caprl_core.recipe.models import StorageExecution

SUFFIXES = (".jsonl", ".json", ".jsonl.gz", ".jsonl.zst", ".json.gz", ".json.zst", ".parquet")
"""Files that are read, also of a folder or glob."""

_LISTS = "questions", "qa_list"
_IMAGE = "image", "image_path"


class Refused(NamedTuple):
    """A row or question that could not be taken over: where it stands, and why."""

    where: str
    reason: str


class QuestionBank(Mapping[str, tuple[Question, ...]]):
    """The questions of each image by its key, and what was refused."""

    def __init__(self) -> None:
        self._questions: dict[str, tuple[Question, ...]] = {}
        self._keys: dict[str, str | None] = {}
        self.refused: list[Refused] = []
        """In order of the files."""

    def __getitem__(self, key: str) -> tuple[Question, ...]:
        """The questions of an image. Raises `KeyError`."""
        return self._questions[key]

    def __iter__(self) -> Iterator[str]:
        """Keys in order of the files."""
        return iter(self._questions)

    def __len__(self) -> int:
        """Images that have questions."""
        return len(self._questions)

    def key_of(self, image: str) -> str | None:
        """The key of the image at a path as the set names it; None if there is none, or several."""
        return self._keys.get(image)

    def add(self, key: str, image: str | None, questions: tuple[Question, ...]) -> None:
        """Questions about an image, to those it has already; one that it has is not added again."""
        self._questions[key] = tuple(dict.fromkeys((*self._questions.get(key, ()), *questions)))
        if image is not None:
            # Sources may use the same relative path for different images: such a path names none.
            self._keys[image] = key if self._keys.get(image, key) == key else None


def read_questions(uri: str, storage: StorageExecution | None = None) -> QuestionBank:
    """The questions in a file, folder or glob, local, `s3://` or `https://`, with order and letters as stored.

    Rows are lines of `questions-train.jsonl` (`key`, `image`, `questions`), of `qa_list` files, or of CapRL-QA-75K
    (`id`, `reward_model.ground_truth`), the last also as parquet; and rows of `questions-train.parquet`. The key is
    `key`, else `id`, else the image's path. What cannot be used is in `refused`, with its reason.

    Raises `BadInputError` when a file cannot be read or there is not one question.
    """
    bank = QuestionBank()
    files = Files(storage or StorageExecution())
    try:
        for file in files.expand(uri, SUFFIXES):
            read = _read_parquet if file.lower().endswith(".parquet") else _read_json
            read(files, file, bank)
    finally:
        files.close()
    if not bank:
        first = f"; the first row: {bank.refused[0].where}: {bank.refused[0].reason}" if bank.refused else ""
        raise BadInputError(f"{uri}: not one question in it{first}")
    return bank


def _read_json(files: Files, uri: str, bank: QuestionBank) -> None:
    for row in json_rows(files, uri):
        if row.problem is not None:
            bank.refused.append(Refused(row.where, row.problem))
        else:
            _take(row.value, row.where, bank)


def _read_parquet(files: Files, uri: str, bank: QuestionBank) -> None:
    with parquet.opened(files, uri) as table:
        columns = _columns(table, uri)
        for number, row in enumerate(parquet.rows(table, columns)):
            where = f"{uri}: row {number}"
            if "stem" not in row:
                _take(row, where, bank)
                continue
            try:
                question = question_of(row)
            except (ValueError, KeyError, TypeError) as error:
                bank.refused.append(Refused(where, f"no question: {error}"))
            else:
                bank.add(row["key"], row["image"], (question,))


def _columns(table: pq.ParquetFile, uri: str) -> list[str]:
    """Leaf columns that are read: never the images' bytes."""
    leaves = {name.split(".list.")[0] for name in (column.path for column in table.schema)}
    if {"key", "stem", "options", "answer", "image"} <= leaves:
        return ["key", "stem", "options", "answer", "image"]
    found = [
        name for name in ("key", "id", "image.path", "reward_model", "reward_model.ground_truth") if name in leaves
    ]
    if not any(name.startswith("reward_model") for name in found):
        raise BadInputError(
            f"{uri}: neither questions (key, stem, options, answer) nor CapRL-QA-75K (reward_model.ground_truth)"
        )
    return found


def _take(row: dict[str, Any], where: str, bank: QuestionBank) -> None:
    """A row with a list of questions."""
    items = next((row[name] for name in _LISTS if isinstance(row.get(name), list)), None)
    if items is None:
        items = _ground_truth(row.get("reward_model"))
    if items is None:
        bank.refused.append(Refused(where, "no list of questions (`questions` or `reward_model.ground_truth`)"))
        return
    image = next((value for name in _IMAGE if (value := _path(row.get(name))) is not None), None)
    key = next((row[name] for name in ("key", "id") if isinstance(row.get(name), str)), image)
    if key is None:
        bank.refused.append(Refused(where, "no `key`, `id` or `image` to tell the image by"))
        return
    questions = []
    for item in items:
        question = _stored(item)
        if question is not None:
            questions.append(question)
            continue
        parsed = imported_questions([clean_text(item)])
        questions += [question for _, question in parsed.questions]
        bank.refused += [Refused(where, f"{refused.reason.value}: {refused.detail}") for refused in parsed.refused]
    if questions:
        bank.add(key, image, tuple(questions))


def _ground_truth(value: Any) -> list[Any] | None:
    """The list inside `reward_model`, stored as such or as JSON text."""
    for _ in range(2):
        if isinstance(value, str):
            try:
                value = json.loads(value)
            except (ValueError, RecursionError):
                return None
        if isinstance(value, dict):
            value = value.get("ground_truth")
    return value if isinstance(value, list) else None


def _path(value: Any) -> str | None:
    """The path of an image column, which is a path or holds one."""
    if isinstance(value, dict):
        value = value.get("path")
    return value if isinstance(value, str) and value else None


def _stored(item: Any) -> Question | None:
    """A question as `choices` writes it (`A) red`), read without the parsers: those take 0.4 ms, and there are 375,000.

    None for anything else, which the parsers then judge.
    """
    if not isinstance(item, dict):
        return None
    stem, shown, answer = item.get("question"), item.get("choices"), item.get("answer")
    if not isinstance(stem, str) or not isinstance(shown, list) or not isinstance(answer, str) or len(answer) != 1:
        return None
    if not LEAST_OPTIONS <= len(shown) <= MOST_OPTIONS or answer not in LETTERS[: len(shown)]:
        return None
    options = []
    for letter, text in zip(LETTERS, shown, strict=False):
        if not isinstance(text, str) or not text.startswith(f"{letter}) ") or "answer based on" in text:
            return None  # the last: released files may carry an abstaining option, which the parsers take out
        options.append(text[3:])
    if not stem.strip() or not all(option.strip() for option in options) or len(set(options)) < len(options):
        return None
    return Question(clean_text(stem), tuple(clean_text(options)), LETTERS.index(answer))
