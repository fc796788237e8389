"""Question sets as the reward reads them: our own, and the released one."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from caprl_core.errors import BadInputError
from caprl_core.qa.question import Question
from caprl_core.qa.sets.curated_files import choices
from caprl_core.reward.questions import read_questions
from support.asked_reader import question

FIRST = question(0, gold=2)
SECOND = Question("Two lines:\nwhich word?", ("A) x", "*y*", "D"), 1)


def item(one: Question) -> dict[str, Any]:
    return {"question": one.stem, "choices": choices(one.options), "answer": one.answer}


def line(key: str, *questions: Question, image: str | None = None) -> dict[str, Any]:
    return {"key": key, "image": image or f"{key}.png", "questions": [item(one) for one in questions]}


def written(path: Path, *rows: Any) -> str:
    path.write_text("".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows))
    return str(path)


def test_a_curated_set_is_read_as_it_was_written(tmp_path: Path) -> None:
    bank = read_questions(written(tmp_path / "q.jsonl", line("a", FIRST, SECOND), line("b", FIRST)))
    assert dict(bank) == {"a": (FIRST, SECOND), "b": (FIRST,)}
    assert bank.key_of("b.png") == "b"
    assert bank.refused == []


def test_the_curated_parquet_says_the_same(tmp_path: Path) -> None:
    rows = [
        {"key": "a", "image": "a.png", "stem": one.stem, "options": list(one.options), "answer": one.answer, "more": 1}
        for one in (FIRST, SECOND)
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "questions-train.parquet")
    bank = read_questions(str(tmp_path / "questions-train.parquet"))
    assert dict(bank) == {"a": (FIRST, SECOND)}
    assert bank.key_of("a.png") == "a"


def test_a_question_that_is_there_twice_is_taken_once(tmp_path: Path) -> None:
    """Twice in a row or in two rows: it would be drawn twice as often as the others."""
    bank = read_questions(written(tmp_path / "q.jsonl", line("a", FIRST, FIRST, SECOND), line("a", SECOND, FIRST)))
    assert dict(bank) == {"a": (FIRST, SECOND)}


@pytest.mark.parametrize("as_text", [False, True])
def test_the_released_set_is_read_as_parquet_and_as_lines(tmp_path: Path, as_text: bool) -> None:
    truth = {"ground_truth": [item(FIRST)]}
    row = {"id": "0f", "reward_model": json.dumps(truth) if as_text else truth}
    image = {"bytes": b"not read", "path": "x/1.jpg"}
    pq.write_table(pa.Table.from_pylist([row | {"image": image}]), tmp_path / "train-0.parquet")
    lines = written(tmp_path / "q.jsonl", row | {"image": "x/1.jpg"})
    for uri in (str(tmp_path / "train-*.parquet"), lines):
        bank = read_questions(uri)
        assert dict(bank) == {"0f": (FIRST,)}
        assert bank.key_of("x/1.jpg") == "0f"


def test_released_choices_with_other_letters_or_an_abstaining_option_are_understood(tmp_path: Path) -> None:
    dotted = {"question": FIRST.stem, "choices": ["A. red", "B. blue", "C. green", "D. white"], "answer": "C"}
    fifth = item(FIRST) | {"choices": [*choices(FIRST.options), "E) Can not answer based on the caption"]}
    bank = read_questions(
        written(tmp_path / "q.jsonl", {"key": "a", "questions": [dotted]}, {"key": "b", "questions": [fifth]})
    )
    assert dict(bank) == {"a": (FIRST,), "b": (FIRST,)}


def test_what_cannot_be_used_is_listed_with_its_place_and_reason(tmp_path: Path) -> None:
    bad = item(FIRST) | {"answer": "Z"}
    uri = written(
        tmp_path / "q.jsonl",
        {"key": "a", "questions": [bad, item(SECOND), 7]},
        "{broken}",
        {"key": "b"},
        {"questions": [item(FIRST)]},
    )
    bank = read_questions(uri)
    assert dict(bank) == {"a": (SECOND,)}
    assert [refused.where.split(": ")[1].split(" (")[0] for refused in bank.refused] == [
        "line 1",
        "line 1",
        "line 2",
        "line 3",
        "line 4",
    ]
    assert "answer_not_an_option" in bank.refused[0].reason
    assert "`key`" in bank.refused[4].reason


def test_a_path_of_two_images_names_neither_and_a_question_is_taken_once(tmp_path: Path) -> None:
    bank = read_questions(
        written(
            tmp_path / "q.jsonl",
            line("a", FIRST, image="1.png"),
            line("b", FIRST, image="1.png"),
            line("a", FIRST, SECOND, image="1.png"),
        )
    )
    assert bank.key_of("1.png") is None
    assert bank["a"] == (FIRST, SECOND)


def test_a_file_without_a_question_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="not one question"):
        read_questions(written(tmp_path / "q.jsonl", {"key": "a", "caption": "no questions"}))
    pq.write_table(pa.table({"key": ["a"]}), tmp_path / "q.parquet")
    with pytest.raises(BadInputError, match="neither questions"):
        read_questions(str(tmp_path / "q.parquet"))
    with pytest.raises(BadInputError, match="no file"):
        read_questions(str(tmp_path / "*.none"))


def test_a_set_on_s3_is_read(tmp_path: Path, bucket: str, s3_client: Any) -> None:
    written(tmp_path / "q.jsonl", line("a", FIRST))
    s3_client.upload_file(str(tmp_path / "q.jsonl"), bucket, "set/questions-train.jsonl")
    assert dict(read_questions(f"s3://{bucket}/set/questions-train.jsonl")) == {"a": (FIRST,)}
