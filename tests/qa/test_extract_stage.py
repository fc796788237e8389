"""The extraction stage: payload in, row out, nothing lost."""

import json
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pytest
import yaml

from caprl_core.data.reasons import Reason
from caprl_core.data.sample import PlannedSample
from caprl_core.qa.blocks.block import parse_block
from caprl_core.qa.blocks.render import render_block
from caprl_core.qa.extract import ExtractStage
from caprl_core.qa.question import Question, question_id
from caprl_core.qa.rows import QUESTION_FIELDS
from caprl_core.recipe.qa import AnswererRecipe, ExtractRecipe, WriterRecipe
from caprl_core.shards.stage import Drop, Row, Stage

CAR = Question("What colour is the car?", ("red", "blue", "green", "grey"), 3)
BUS = Question("Who drives\nthe bus?", ("a man", "a woman"), 1)


@dataclass(frozen=True)
class Recipe:
    extract: ExtractRecipe = field(default_factory=ExtractRecipe)


def sample(payload: Any) -> PlannedSample:
    text = payload if isinstance(payload, str) or payload is None else json.dumps(payload)
    return PlannedSample("set-000001", 0, 0, "source", "a.jpg", payload=text)


def fields_of(payload: Any, recipe: Recipe | None = None) -> dict[str, Any]:
    outcome = ExtractStage(recipe or Recipe(), "unread").outcome(sample(payload), (), 1)
    assert isinstance(outcome, Row), outcome
    row = dict(outcome.fields)
    assert pa.Table.from_pylist([row], schema=QUESTION_FIELDS).to_pylist() == [row]
    return row


def test_the_stage_asks_nothing() -> None:
    stage: Stage = ExtractStage(Recipe(), "unread")
    assert stage.requests(sample({"block": ""}), None, 1) == ()
    assert (stage.name, stage.asks, stage.leads, stage.max_attempts, stage.prompt_id) == ("extract", False, 0, 1, "")
    assert stage.image_use == "unread"
    assert ExtractStage(Recipe(), "kept").image_use == "kept"


def test_a_block_becomes_questions_with_their_writer() -> None:
    row = fields_of(
        {
            "block": render_block([CAR, BUS]),
            "finish_reason": "stop",
            "model": "Qwen/Qwen2.5-VL-72B-Instruct",
            "model_revision": None,
            "engine": "openai",
            "engine_version": "3",
            "prompt_id": "five-questions-v1",
            "attempt": 2,
        }
    )
    assert row["questions"] == [
        {"id": question_id("set-000001", CAR), "stem": CAR.stem, "options": list(CAR.options), "answer": "D"},
        {"id": question_id("set-000001", BUS), "stem": BUS.stem, "options": list(BUS.options), "answer": "B"},
    ]
    assert row["refused"] == []
    assert row["writer"] == {
        "model": "Qwen/Qwen2.5-VL-72B-Instruct",
        "revision": None,
        "engine": "openai",
        "engine_version": "3",
        "prompt_id": "five-questions-v1",
        "attempt": 2,
    }


def test_the_text_of_a_row_is_a_block_that_parses_to_its_questions() -> None:
    row = fields_of({"block": "Who?\nA: me\nB: you\nAnswer: (b)"})
    text = ExtractStage(Recipe(), "unread").text(row)
    assert [one for _, one in parse_block(text, cut=False).questions] == [Question("Who?", ("me", "you"), 1)]


def test_garbage_is_a_row_without_questions_and_with_its_words() -> None:
    row = fields_of({"block": "red red ( circle"})
    assert row["questions"] == []
    assert [(item["reason"], item["text"]) for item in row["refused"]] == [("unreadable", "red red ( circle")]
    assert set(row["writer"].values()) == {None}
    assert ExtractStage(Recipe(), "unread").text(row) == ""


def test_a_reply_that_ended_at_its_token_limit_may_be_cut() -> None:
    text = render_block([CAR]) + "#### 2. **Who dri"
    assert [item["reason"] for item in fields_of({"block": text, "finish_reason": "length"})["refused"]] == ["cut"]
    assert [item["reason"] for item in fields_of({"block": text, "finish_reason": "stop"})["refused"]] == [
        "too_few_options"
    ]


def test_the_recipe_applies() -> None:
    row = fields_of({"block": render_block([CAR, BUS])}, Recipe(ExtractRecipe(min_options=4)))
    assert [item["reason"] for item in row["refused"]] == ["too_few_options"]


def test_step_2_items_keep_their_lines_and_lose_the_abstaining_option() -> None:
    question = "Consider:\n1. x\nWhich?\n   - A) red\n   - B) blue\n   - E) Can not answer based on the caption"
    row = fields_of({"questions": [{"question": question, "answer": "B"}, {"question": question, "answer": "E"}]})
    assert [(one["stem"], one["options"], one["answer"]) for one in row["questions"]] == [
        ("Consider:\n1. x\nWhich?", ["red", "blue"], "B")
    ]
    assert [(item["number"], item["reason"]) for item in row["refused"]] == [(2, "answer_not_an_option")]


@pytest.mark.parametrize(
    "choices",
    [["A) Black", "B) White"], ["A. Black", "B. White"], ["(A) Black", "(B) White"], ["Black", "White"]],
    ids=["CapRL-QA-75K", "CapRL-Video-QA-20K", "brackets", "none"],
)
def test_letters_of_released_choices_are_no_part_of_the_options(choices: list[str]) -> None:
    row = fields_of({"questions": [{"question": "Which?", "choices": choices, "answer": "B"}]})
    assert [(one["options"], one["answer"]) for one in row["questions"]] == [(["Black", "White"], "B")]


def test_initials_of_unlettered_choices_stay() -> None:
    choices = ["A. Milne", "C. Dickens"]
    row = fields_of({"questions": [{"question": "Whose book is it?", "choices": choices, "answer": "A"}]})
    assert row["questions"][0]["options"] == choices


def test_a_stored_letter_is_a_letter_even_where_another_option_reads_so() -> None:
    item = {"question": "Which letter is on the sign?", "choices": ["A) B", "B) A"], "answer": "B"}
    assert fields_of({"questions": [item]})["questions"][0]["answer"] == "B"


def test_one_malformed_item_costs_itself_alone() -> None:
    good = {"question": "Who?", "choices": ["A) me", "B) you"], "answer": "A"}
    row = fields_of(
        {"questions": [None, good, {"answer": "A"}, {"question": "Where?", "choices": [1, {}], "answer": []}]}
    )
    assert len(row["questions"]) == 1
    assert [item["number"] for item in row["refused"]] == [1, 3, 4]


def test_lone_surrogates_do_not_reach_the_row() -> None:
    row = fields_of({"block": "Who?\nA) m\ud800e\nB) you\nAnswer: A"})
    assert row["questions"][0]["options"] == ["m\N{REPLACEMENT CHARACTER}e", "you"]


@pytest.mark.parametrize("payload", [None, "", "no JSON", "[]", '{"block": 3}', '{"questions": {}}', "{}"])
def test_only_a_payload_of_no_stage_is_dropped(payload: str | None) -> None:
    outcome = ExtractStage(Recipe(), "unread").outcome(sample(payload), (), 1)
    assert isinstance(outcome, Drop)
    assert (outcome.reason, outcome.retry) == (Reason.UNPARSABLE, False)


def test_the_shipped_prompts_show_the_format_that_the_parser_reads() -> None:
    system = WriterRecipe.model_validate({"model": {"name": "m"}}).prompt.system
    assert system is not None
    example = system[system.index("####") : system.rindex("------")]
    assert [one.gold_text for _, one in parse_block(example, cut=False).questions] == ["Lemons", "4.50"]
    answerer = AnswererRecipe.model_validate({"model": {"name": "m"}}).prompt
    assert answerer.text.count("{question}") == 1
    assert answerer.system is None
    assert yaml.safe_dump(answerer.text)
