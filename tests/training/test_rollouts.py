"""Rollouts as parquet: every caption with what was asked, how it was shown, what was answered and what it earned."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caprl_core.engines.protocol import Request
from caprl_core.qa.question import Question, question_id
from caprl_core.reward.reward import score_captions
from caprl_core.reward.score import DrawRecord, Score
from caprl_core.training.rollouts import ROLLOUT, Rollout, rollout_rows, write_rollouts
from support.asked_reader import ABSTAIN, caption, question, reader, reward_recipe, shown_options, stem_of

QUESTION = question(1, gold=2)
ID = question_id("a", QUESTION)


def rollout(key: str = "a", text: str = "A green thing.", **score: object) -> Rollout:
    usual: dict[str, object] = {"key": key, "rollout": 0, "reward": 0.5, "accuracy": 0.5}
    return Rollout(key, text, tokens=4, truncated=False, score=Score(**(usual | score)))  # type: ignore[arg-type]


def rows_of(*rollouts: Rollout, questions: dict[str, tuple[Question, ...]] | None = None, **more: object) -> list[dict]:
    asked = questions or {"a": (QUESTION,)}
    by_id = {key: {question_id(key, one): one for one in some} for key, some in asked.items()}
    table = rollout_rows(7, rollouts, [0] * len(rollouts), by_id, abstain=ABSTAIN, **more)  # type: ignore[arg-type]
    assert table.schema == ROLLOUT
    return list(table.to_pylist())


def test_a_rollout_says_what_it_is_and_what_it_earned() -> None:
    one = rollout(terms={"length": -0.25, "other": 1.0})
    (row,) = rows_of(one, advantages=[1.5])
    assert row == {
        "step": 7,
        "key": "a",
        "rollout": 0,
        "caption": "A green thing.",
        "tokens": 4,
        "truncated": False,
        "reward": 0.5,
        "accuracy": 0.5,
        "advantage": 1.5,
        "reason": None,
        "terms": [{"name": "length", "value": -0.25}, {"name": "other", "value": 1.0}],
        "draws": [],
    }


def test_a_missing_reward_stays_missing_and_is_no_zero() -> None:
    (row,) = rows_of(rollout(reward=None, accuracy=None, reason="too_few_answers"))
    assert (row["reward"], row["accuracy"], row["advantage"]) == (None, None, None)
    assert row["reason"] == "too_few_answers"


@pytest.mark.parametrize(
    ("order", "shown", "gold"),
    [
        ("ABCD", ["red", "blue", "green", "white"], "C"),
        ("CDBA", ["green", "white", "blue", "red"], "A"),
        ("BADC-", ["blue", "red", "white", "green", ABSTAIN], "D"),
    ],
)
def test_options_are_those_the_reader_saw_in_their_order(order: str, shown: list[str], gold: str) -> None:
    draw = DrawRecord(ID, order, "D", "wrong", "D")
    (row,) = rows_of(rollout(draws=(draw,)))
    assert row["draws"] == [
        {
            "question_id": ID,
            "stem": QUESTION.stem,
            "options": shown,
            "gold": gold,
            "letter": "D",
            "outcome": "wrong",
            "reply": "D",
        }
    ]


async def test_what_is_kept_is_what_a_reader_was_asked() -> None:
    seen: list[Request] = []

    def answer(request: Request) -> str:
        seen.append(request)
        return "A"

    recipe = reward_recipe(draws=6, abstain=ABSTAIN)
    asked = {"a": (QUESTION, question(2, gold=0))}
    engine = reader(answer)
    await engine.start()
    (score,) = await score_captions([caption()], asked, engine, recipe, 3)
    await engine.close()
    (row,) = rows_of(Rollout("a", "A red thing.", 4, False, score), questions=asked)
    kept = {(draw["stem"], tuple(draw["options"])) for draw in row["draws"]}
    assert kept == {(stem_of(request), tuple(shown_options(request).values())) for request in seen}
    for draw in row["draws"]:
        right = draw["options"]["ABCDE".index(draw["gold"])]
        assert right == {"What colour is thing 1?": "green", "What colour is thing 2?": "red"}[draw["stem"]]
        shown = draw["options"][0]
        assert draw["letter"] == "A"
        assert draw["outcome"] == ("right" if shown == right else "abstained" if shown == ABSTAIN else "wrong")
    assert row["accuracy"] == sum(draw["outcome"] == "right" for draw in row["draws"]) / 6


@given(text=st.text(), reply=st.text(), key=st.text(min_size=1))
def test_any_text_is_kept_but_halves_of_pairs(text: str, reply: str, key: str) -> None:
    ours = question_id(key, QUESTION)
    one = rollout(key, text + "\ud800", draws=(DrawRecord(ours, "ABCD", None, "unread", reply + "\udfff"),))
    (row,) = rows_of(one, questions={key: (QUESTION,)})
    assert (row["caption"], row["draws"][0]["reply"], row["key"]) == (text + "\ufffd", reply + "\ufffd", key)


def test_the_file_is_whole_and_replaces_that_of_a_killed_attempt(tmp_path: Path) -> None:
    path = tmp_path / "rollouts" / "step-000007.parquet"
    for text in ("first attempt", "second attempt"):
        by_id = {"a": {ID: QUESTION}}
        table = rollout_rows(7, [rollout(text=text)] * 3, [0, 1, 2], by_id, abstain=None, advantages=[1.0, 0.0, -1.0])
        write_rollouts(table, path)
    back = pq.read_table(path)
    assert back.schema.equals(ROLLOUT)
    assert back["caption"].to_pylist() == ["second attempt"] * 3
    assert back["rollout"].to_pylist() == [0, 1, 2]
    assert [file.name for file in path.parent.iterdir()] == ["step-000007.parquet"]


def test_as_many_numbers_as_rollouts_are_needed() -> None:
    with pytest.raises(ValueError, match="zip"):
        rollout_rows(1, [rollout()], [0, 1], {"a": {ID: QUESTION}}, abstain=None)
