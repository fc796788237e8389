"""Judged rows become one line an answer: points where there is a reply, nothing where the request failed."""

from typing import Any

import numpy as np
import pytest

from caprl_core.errors import BadInputError
from caprl_core.prism.results.columns import benchmark_rows, codes, grid_of, texts
from caprl_core.prism.results.scoring import SCORES, score_rows
from caprl_core.recipe.prism import BenchmarkRecipe

CHOICE = BenchmarkRecipe(name="colours", form="questions", uri="x", scorer="choice", open_scorer="match")


def reply(text: str, *, failure: str | None = None, finish: str | None = "stop") -> dict[str, Any]:
    return {"reply": text, "finish_reason": finish, "tokens": len(text.split()), "failure": failure}


def question(name: str, *replies: dict[str, Any], options: tuple[str, ...] = ("red", "blue"), gold: str = "B") -> Any:
    asked = {"id": name, "text": "Which colour?", "options": list(options), "answers": [gold], "system": None}
    return asked | {"replies": list(replies)}


def row(key: str, *questions: Any, captions: int = 1, cut: str | None = "stop", benchmark: str = "colours") -> Any:
    caption = {"text": "a red thing", "finish_reason": cut, "tokens": None if cut is None else 3}
    engine = {"engine": "vllm", "engine_version": "0.32"}
    return engine | {
        "key": key, "benchmark": benchmark, "captions": [caption] * captions, "questions": list(questions),
    }  # fmt: skip


def lines(*rows: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = score_rows([list(rows)], [CHOICE]).answers.to_pylist()
    return found


def test_every_answer_is_a_line_in_order() -> None:
    found = lines(
        row("k1", question("q1", reply("B"), reply("A")), question("q2", reply("B"), reply("B")), captions=2),
        row("k2", question("q3", reply("Answer: B"))),
    )
    assert [(one["image"], one["question"], one["caption"], one["points"]) for one in found] == [
        ("k1", "q1", 0, 1.0), ("k1", "q1", 1, 0.0), ("k1", "q2", 0, 1.0), ("k1", "q2", 1, 1.0), ("k2", "q3", 0, 1.0),
    ]  # fmt: skip
    assert {one["scorer"] for one in found} == {"choice"}


def test_a_failed_request_has_no_points_and_an_unread_reply_has_none_to_give() -> None:
    failed, unread = lines(row("k", question("q", reply("", failure="HTTP 500"), reply("Well, well.")), captions=2))
    assert (failed["points"], failed["read"], failed["failed"]) == (None, None, True)
    assert (unread["points"], unread["read"], unread["failed"]) == (0.0, None, False)


def test_an_open_question_gets_the_open_scorer() -> None:
    (open_one,) = lines(row("k", question("q", reply("Answer: seven"), options=(), gold="seven")))
    assert (open_one["scorer"], open_one["points"], open_one["read"]) == ("match", 1.0, "seven")


def test_lengths_and_cuts_come_along_and_what_nobody_knows_is_null() -> None:
    known, unknown = lines(
        row("k1", question("q", reply("Answer: B", finish="length")), cut="length"),
        row("k2", question("q2", reply("Answer: B", finish=None)), cut=None),
    )
    assert [known[name] for name in ("caption_tokens", "caption_characters", "caption_truncated")] == [3, 11, True]
    assert [unknown[name] for name in ("caption_tokens", "caption_characters", "caption_truncated")] == [None, 11, None]
    assert (known["judge_truncated"], unknown["judge_truncated"]) == (True, False)


def test_every_caption_is_counted_once_however_many_questions_there_are() -> None:
    scored = score_rows(
        [[row("k", *(question(f"q{n}", reply("B"), reply("B")) for n in range(3)), captions=2)]], [CHOICE]
    )
    assert scored.captions.num_rows == 2 and scored.answers.num_rows == 6
    assert scored.engines == ("vllm 0.32",)


def test_the_digest_changes_with_what_is_asked_and_not_with_the_id() -> None:
    one, same, other = lines(
        row("k1", question("q1", reply("B"))),
        row("k2", question("q2", reply("B"))),
        row("k3", question("q3", reply("B"), gold="A")),
    )
    assert one["asked"] == same["asked"] != other["asked"]


def test_a_row_of_an_unknown_benchmark_is_an_error_that_names_it() -> None:
    with pytest.raises(BadInputError, match="sample k: benchmark 'maps' is not in the recipe, which has colours"):
        lines(row("k", question("q", reply("B")), benchmark="maps"))


def test_no_rows_are_a_table_without_rows() -> None:
    scored = score_rows([], [CHOICE])
    assert scored.answers.schema == SCORES and scored.answers.num_rows == 0
    grid, images = grid_of(scored.answers, "points")
    assert grid.shape == (0, 0) and len(images) == 0


def test_columns_are_small_and_read_back_by_benchmark() -> None:
    rows = [[row(f"k{shard}-{n}", *(question(f"{shard}-{n}-{q}", reply("B"), reply("A")) for q in range(4)), captions=2)
             for n in range(50)] for shard in range(5)]  # fmt: skip
    answers = score_rows(rows, [CHOICE]).answers
    assert answers.num_rows == 2000
    assert answers.nbytes / answers.num_rows < 80  # 100,000 questions of 4 captions: 32 MB
    mine = benchmark_rows(answers, "colours")
    assert mine.num_rows == 2000 and benchmark_rows(answers, "maps").num_rows == 0
    grid, images = grid_of(mine, "points")
    assert grid.shape == (1000, 2) and np.array_equal(grid.mean(axis=0), [1.0, 0.0])
    assert len(np.unique(images)) == 250 and (np.diff(images) >= 0).all()
    assert len(set(texts(mine.column("question")))) == len(np.unique(codes(mine.column("question")))) == 1000
