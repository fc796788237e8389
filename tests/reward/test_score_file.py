"""A file of captions in, a file of scores out: every line accounted for, the file whole or absent."""

import json
from pathlib import Path
from typing import Any

import pytest

from caprl_core.engines.protocol import Request
from caprl_core.errors import BadInputError, EngineDeadError
from caprl_core.reward.questions import QuestionBank
from caprl_core.reward.score_file import score_file
from support.asked_reader import names, question, reader, reward_recipe

ROWS: list[Any] = [
    {"key": "a", "caption": "told", "rollout": 3},
    {"image": "x/b.png", "caption": "told", "finish_reason": "stop", "completion_tokens": 9},
    {"key": "z", "caption": "told"},
    {"key": "z", "image": "x/b.png", "caption": "untold"},
    {"key": "a", "caption": None},
    {"caption": "told"},
    "{broken}",
    {"key": "a", "caption": "fails"},
]
says = names(lambda request: "red" if "untold" not in request.text else "blue")


@pytest.fixture
def bank() -> QuestionBank:
    bank = QuestionBank()
    bank.add("a", "x/a.png", (question(0), question(1)))
    bank.add("b", "x/b.png", (question(2),))
    return bank


@pytest.fixture
def captions(tmp_path: Path) -> str:
    path = tmp_path / "captions.jsonl"
    path.write_text("".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in ROWS))
    return str(path)


def failing(request: Request) -> str:
    if "fails" in request.text:
        from caprl_core.data.reasons import Reason
        from caprl_core.errors import SampleFailedError

        raise SampleFailedError(Reason.REQUEST_FAILED, "to order")
    return says(request)


async def test_each_line_gets_a_score_or_a_reason_in_order(captions: str, tmp_path: Path, bank: QuestionBank) -> None:
    out = tmp_path / "scores.jsonl"
    totals = await score_file(captions, str(out), bank, reader(failing), reward_recipe())
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert [line["reward"] for line in lines] == [1.0, 1.0, None, 0.0, None, None, None, None]
    reasons = [line["reason"] and line["reason"].partition(":")[0] for line in lines]
    assert reasons == [None, None, "no_questions", None, "no_caption", "no_key", "bad_row", "too_few_answers"]
    assert lines[0]["rollout"] == 3
    assert (lines[1]["key"], lines[1]["image"]) == ("b", "x/b.png")
    assert len(lines[0]["draws"]) == 8
    assert "line 7" in lines[6]["reason"]
    assert totals.as_json() == {
        "captions": 8,
        "scored": 3,
        "mean_reward": pytest.approx(2 / 3),
        "accuracy": pytest.approx(2 / 3),
        "abstained": 0.0,
        "unread": 0.0,
        "failed": 0.25,
        "draws": 32,
        "without_reward": {"bad_row": 1, "no_caption": 1, "no_key": 1, "no_questions": 1, "too_few_answers": 1},
    }


async def test_a_line_without_its_tokens_does_not_end_the_file(tmp_path: Path, bank: QuestionBank) -> None:
    path, out = tmp_path / "captions.jsonl", tmp_path / "scores.jsonl"
    rows = [{"key": "a", "caption": "told", **more} for more in ({"tokens": 4}, {}, {"completion_tokens": 3})]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = reward_recipe(terms={"length": {"full": 10, "none": 20, "weight": 0.5}})
    totals = await score_file(str(path), str(out), bank, reader(says), recipe)
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert [line["reward"] for line in lines] == [1.5, None, 1.5]
    assert [line["reason"] for line in lines] == [None, "no_tokens", None]
    assert totals.as_json()["without_reward"] == {"no_tokens": 1}


async def test_a_run_that_fails_leaves_the_old_file_alone(captions: str, tmp_path: Path, bank: QuestionBank) -> None:
    def dies(_: Request) -> str:
        raise EngineDeadError("gone")

    out = tmp_path / "scores.jsonl"
    out.write_text("old\n")
    with pytest.raises(EngineDeadError):
        await score_file(captions, str(out), bank, reader(dies), reward_recipe())
    assert out.read_text() == "old\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["captions.jsonl", "scores.jsonl"]


async def test_scores_go_to_s3_as_well(
    captions: str, bank: QuestionBank, bucket: str, s3_client: Any, tmp_path: Path
) -> None:
    await score_file(captions, f"s3://{bucket}/run/scores.jsonl", bank, reader(says), reward_recipe())
    body = s3_client.get_object(Bucket=bucket, Key="run/scores.jsonl")["Body"].read()
    assert len(body.splitlines()) == len(ROWS)


async def test_an_address_that_names_no_file_is_refused(captions: str, bank: QuestionBank) -> None:
    for out in ("s3://bucket", "folder/"):
        with pytest.raises(BadInputError, match="name the file"):
            await score_file(captions, out, bank, reader(says), reward_recipe())


async def test_long_files_are_scored_piece_by_piece(
    tmp_path: Path, bank: QuestionBank, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("caprl_core.reward.score_file.CHUNK", 4)
    path = tmp_path / "many.jsonl"
    path.write_text("".join(json.dumps({"key": "a", "caption": f"told {n}"}) + "\n" for n in range(10)))
    done: list[int] = []
    totals = await score_file(
        str(path), str(tmp_path / "out"), bank, reader(says), reward_recipe(), progress=done.append
    )
    assert done == [4, 8, 10]
    assert totals.scored == len((tmp_path / "out").read_text().splitlines()) == 10
