"""Generation: the writer's whole reply is a row, or there is a reason; garbage is kept at the last attempt."""

import pytest

from caprl_core.captioning.stage import CHARACTERS_A_TOKEN
from caprl_core.data.reasons import Reason
from caprl_core.data.row import Result
from caprl_core.data.sample import PlannedSample
from caprl_core.engines.protocol import Reply, Request
from caprl_core.qa.generate import GenerateStage
from caprl_core.qa.rows import BLOCK_FIELDS
from caprl_core.recipe.qa_stages import generate_recipe
from caprl_core.shards.request_sampling import request_seed
from caprl_core.shards.stage import Drop, Row
from support.curated_set import ask, picture, qa_recipe
from support.echo_engine import EchoEngine

RECIPE = generate_recipe(qa_recipe(writer__max_attempts=3, writer__sampling={"max_tokens": 300, "seed": 5}))
SAMPLE = PlannedSample("folder-9", 0, 0, "folder", "a.png")
GOOD = """#### 1. **What colour is the boat?**
   - A) Red
   - B) Blue
   - C) Green
   - D) White

**Answer:** B) Blue
------"""
GARBAGE = "lake the under tree with roof and bird of red near"


async def generated(*replies: str, first: int = 1) -> tuple[Result, list[Request]]:
    """What becomes of a sample whose attempts are answered in turn."""
    asked: list[Request] = []
    engine = EchoEngine(answer=lambda request: replies[len(asked) - 1], asked=asked.append)
    return await ask(GenerateStage(RECIPE), RECIPE, engine, SAMPLE, picture(), first), asked


def judged(text: str, attempt: int = 1, finish: str = "stop") -> Row | Drop:
    outcome = GenerateStage(RECIPE).outcome(SAMPLE, [Reply(text, finish, 10, 10, 0.1)], attempt)  # type: ignore[arg-type]
    assert isinstance(outcome, Row | Drop)
    return outcome


async def test_a_block_is_kept_whole_with_all_that_asked_for_it() -> None:
    result, (request,) = await generated(GOOD)
    assert result.row is not None
    assert {field.name for field in BLOCK_FIELDS} == {"block"}
    assert (result.row["block"], result.row["attempt"], result.row["prompt_id"]) == (GOOD, 1, "five")
    assert (request.text, request.system, request.request_id) == (
        "Write five questions.",
        "You write questions.",
        "folder-9/1/0",
    )
    assert len(request.images) == 1
    assert request.choices == ()
    assert (request.sampling.seed, request.sampling.max_tokens) == (request_seed(5, "folder-9", 1), 300)


async def test_each_attempt_has_a_seed_of_its_own() -> None:
    result, requests = await generated("", "I'm sorry, but I can't help with that.", GOOD)
    assert result.row is not None
    assert result.ledger["earlier"] == [Reason.EMPTY, Reason.REFUSED]
    assert len({request.sampling.seed for request in requests}) == 3


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (" \n\u200b", Reason.EMPTY),
        ("Unfortunately, I cannot see the image.", Reason.REFUSED),
        (GARBAGE, Reason.UNPARSABLE),
        ("x" * (CHARACTERS_A_TOKEN * 300 + 1), Reason.UNPARSABLE),
    ],
)
def test_what_is_no_block_is_asked_again(text: str, reason: Reason) -> None:
    outcome = judged(text)
    assert isinstance(outcome, Drop)
    assert (outcome.reason, outcome.retry) == (reason, True)
    assert len(outcome.detail) < 200


async def test_a_reply_without_questions_is_kept_at_the_last_attempt() -> None:
    result, requests = await generated(GARBAGE, GARBAGE, GARBAGE)
    assert len(requests) == 3
    assert result.row is not None
    assert result.row["block"] == GARBAGE
    assert result.ledger["earlier"] == [Reason.UNPARSABLE] * 2


async def test_a_refusal_is_never_a_row() -> None:
    result, _ = await generated(*["I'm sorry, but I can't help with that."] * 3)
    assert (result.row, result.ledger["reason"]) == (None, Reason.REFUSED)


async def test_a_revision_counts_on_and_keeps_garbage_at_once() -> None:
    result, requests = await generated(GARBAGE, first=4)
    assert [request.request_id for request in requests] == ["folder-9/4/0"]
    assert result.row is not None


def test_a_cut_reply_is_a_row_if_a_question_is_whole() -> None:
    assert isinstance(judged(f"{GOOD}\n#### 2. **What stands", finish="length"), Row)
    assert isinstance(judged("#### 1. **What stands on the\n   - A) a", finish="length"), Drop)


def test_a_set_that_starts_from_blocks_generates_nothing() -> None:
    imported = qa_recipe(
        sources=[{"name": "released", "kind": "qa_blocks", "uri": "part.jsonl"}], writer=None, execution__writer=None
    )
    with pytest.raises(ValueError, match="nothing is to be generated"):
        generate_recipe(imported)


def test_a_writer_without_an_image_is_a_mistake_of_ours() -> None:
    with pytest.raises(ValueError, match="images"):
        GenerateStage(RECIPE).requests(SAMPLE, None, 1)
