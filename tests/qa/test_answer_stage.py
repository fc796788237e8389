"""Answering: every question in several orders, with the image first, without it after; every vote is kept."""

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from caprl_core.data.reasons import Reason
from caprl_core.data.row import Result
from caprl_core.data.sample import PlannedSample
from caprl_core.engines.protocol import Reply, Request
from caprl_core.errors import SampleFailedError
from caprl_core.qa.answer import AnswerStage
from caprl_core.qa.decided import Standing, standing
from caprl_core.qa.question import LETTERS, Question, question_id
from caprl_core.qa.rotation import order_of, rotations
from caprl_core.qa.rows import ANSWER_FIELDS
from caprl_core.qa.votes import REPLY_CHARACTERS, Counts, counts
from caprl_core.recipe.qa_stages import AnswerStageRecipe, ThresholdsRecipe, answer_recipe
from caprl_core.shards.request_sampling import request_seed
from caprl_core.shards.stage import Drop, More
from support.curated_set import WRITER, ask, picture, qa_recipe, question, sample_with
from support.echo_engine import EchoEngine

Answer = Callable[[Request], str]


def recipe(**answerer: Any) -> AnswerStageRecipe:
    return answer_recipe(qa_recipe(**{f"answerer__{name}": value for name, value in answerer.items()}), "f00d")


async def answered(
    sample: PlannedSample, answer: Answer, *, engine: type[EchoEngine] = EchoEngine, **answerer: Any
) -> tuple[Result, list[Request]]:
    """What becomes of a sample, and every request made for it in the order of arrival."""
    asked: list[Request] = []
    made = recipe(**answerer)
    result = await ask(AnswerStage(made), made, engine(answer=answer, asked=asked.append), sample, picture())
    return result, asked


def shown(request: Request) -> dict[str, str]:
    """Letter -> option's text, as the model reads them."""
    lines = (line.partition(") ") for line in request.text.splitlines())
    return {letter: text for letter, mark, text in lines if mark and letter in LETTERS}


def pick(text: str) -> Answer:
    """Always the letter of this option."""
    return lambda request: next(letter for letter, option in shown(request).items() if option == text)


def seeing(request: Request) -> str:
    """Right ("blue") with the image, wrong ("red") without."""
    return pick("blue" if request.images else "red")(request)


def rows(result: Result) -> list[dict[str, Any]]:
    assert result.row is not None, result.ledger
    return list(result.row["questions"])


async def test_every_question_is_asked_in_every_rotation_with_and_without_the_image() -> None:
    ones = [question(0), question(1, gold=2), question(2, ("yes", "no"), 0)]
    result, requests = await answered(sample_with(*ones), lambda request: "A")
    assert len(requests) == 3 * 4 * 2
    stored = rows(result)
    assert [row["id"] for row in stored] == [question_id("folder-1", one) for one in ones]
    for one, row in zip(ones, stored, strict=True):
        assert (row["stem"], tuple(row["options"]), row["answer"]) == (one.stem, one.options, one.answer)
        with_image = [order_of(vote["order"]) for vote in row["visual"]]
        assert with_image == rotations(one, row["id"], 4, 0, extra=True)
        assert [order_of(vote["order"]) for vote in row["text"]] == [order[:-1] for order in with_image]
        # Who always says A is right as often as the gold stands first.
        assert counts(row["visual"]).successes == 4 // len(one.options)
    assert result.row is not None
    assert result.row["writer"] == WRITER
    assert set(ANSWER_FIELDS.names) <= set(result.row)


async def test_requests_with_the_image_come_first_and_question_by_question() -> None:
    requests = AnswerStage(recipe()).requests(sample_with(question(0), question(1)), image := picture(), 1)
    assert [len(request.images) for request in requests] == [1] * 8 + [0] * 8
    assert all(request.images[0] is image for request in requests[:8])
    stems = [request.text.splitlines()[0] for request in requests]
    assert stems == [f"What colour is thing {n}?" for n in (0, 0, 0, 0, 1, 1, 1, 1) * 2]
    # All that changes between the rotations of a question stands behind its stem.
    assert all(request.text.endswith("\nAnswer with a letter.") for request in requests)
    assert [request.request_id for request in requests] == [f"folder-1/1/{n}" for n in range(16)]
    assert [request.sampling.seed for request in requests] == [request_seed(0, "folder-1", 1, n) for n in range(16)]
    assert {(r.sampling.temperature, r.sampling.max_tokens, r.choices) for r in requests} == {(0.1, 16, ())}


async def test_the_first_visual_request_fills_the_caches_before_the_others_are_sent() -> None:
    inside: list[int] = []
    engine = EchoEngine(latency_s=lambda _: 0.01, answer=lambda _: "A", asked=lambda _: inside.append(engine.inside))
    made = recipe()
    await ask(AnswerStage(made), made, engine, sample_with(question(0)), picture())
    assert inside == [0, *range(7)]


async def test_a_reply_becomes_a_vote_by_its_letter_or_its_text_and_is_kept() -> None:
    replies = iter(["The answer is B.", "(c)", "blue", "I think it might be a cat", *["D"] * 4])
    result, requests = await answered(sample_with(question(0)), lambda _: next(replies), visual_extra=None)
    (row,) = rows(result)
    letters = [vote["letter"] for vote in row["visual"]]
    blue = pick("blue")(requests[2])
    assert letters == ["B", "C", blue, None]
    assert [vote["reply"] for vote in row["visual"]] == [
        "The answer is B.",
        "(c)",
        "blue",
        "I think it might be a cat",
    ]
    for vote, request in zip([*row["visual"], *row["text"]], requests, strict=True):
        assert vote["correct"] == (vote["letter"] == pick("blue")(request))
        assert (vote["gold_p"], vote["failure"]) == (None, None)
    # No readable letter is a wrong answer, not a missing one.
    assert counts(row["visual"]).trials == 4


async def test_a_reply_of_a_megabyte_is_not_stored_whole() -> None:
    result, _ = await answered(sample_with(question(0)), lambda _: "la " * 350_000)
    assert {len(vote["reply"]) for vote in rows(result)[0]["visual"]} == {REPLY_CHARACTERS}


async def test_each_branch_has_its_own_further_option_unless_the_question_has_it() -> None:
    ones = (question(0), question(1, ("red", "none of the above ", "blue"), 2))
    _, requests = await answered(sample_with(*ones), lambda _: "A", text_extra="Cannot tell")
    options = [tuple(shown(request).values()) for request in requests]
    assert all(found[-1] == "None of the above" and len(found) == 5 for found in options[:4])
    assert all(len(found) == 3 for found in options[4:8])
    assert all(found[-1] == "Cannot tell" for found in options[8:])


async def test_a_six_option_question_has_seven_letters_with_the_further_one() -> None:
    six = question(0, ("red", "blue", "green", "white", "black", "pink"), 5)
    result, requests = await answered(sample_with(six), pick("None of the above"), text_extra="None of the above")
    assert [list(shown(request)) for request in requests] == [list("ABCDEFG")] * 8
    assert {vote["letter"] for vote in rows(result)[0]["visual"]} == {"G"}
    assert counts(rows(result)[0]["visual"]).successes == 0


async def test_a_failed_request_counts_neither_for_nor_against() -> None:
    def sometimes(request: Request) -> str:
        if request.request_id.endswith(("/1", "/5")):
            raise SampleFailedError(Reason.REQUEST_FAILED, "3 attempts, the last: HTTP 500")
        return seeing(request)

    result, _ = await answered(sample_with(question(0)), sometimes)
    (row,) = rows(result)
    assert counts(row["visual"]) == Counts(trials=3, successes=3, failures=1)
    assert counts(row["text"]) == Counts(trials=3, successes=0, failures=1)
    assert row["visual"][1]["failure"] == "request_failed: 3 attempts, the last: HTTP 500"
    assert (row["visual"][1]["letter"], row["visual"][1]["correct"]) == (None, False)


async def test_a_question_whose_requests_all_failed_keeps_its_failures() -> None:
    def picky(request: Request) -> str:
        if "thing 1" in request.text:
            raise SampleFailedError(Reason.REQUEST_REFUSED, "HTTP 400")
        return "A"

    result, _ = await answered(sample_with(question(0), question(1)), picky)
    first, second = rows(result)
    assert counts(first["visual"]).failures == 0
    assert counts(second["visual"]) == counts(second["text"]) == Counts(trials=0, successes=0, failures=4)
    assert counts(second["visual"]).accuracy is None


async def test_an_image_of_which_nothing_was_answered_is_dropped() -> None:
    def refuse(request: Request) -> str:
        raise SampleFailedError(Reason.REQUEST_REFUSED, "HTTP 400: prompt too long")

    result, requests = await answered(sample_with(question(0)), refuse)
    assert len(requests) == 8
    assert (result.row, result.ledger["reason"]) == (None, Reason.REQUEST_FAILED)
    assert "prompt too long" in result.ledger["detail"]


async def test_an_image_without_questions_is_asked_nothing() -> None:
    result, requests = await answered(sample_with(), lambda _: "A")
    assert requests == []
    assert (result.row, result.ledger["reason"]) == (None, Reason.NO_QUESTION)


@pytest.mark.parametrize(
    "payload",
    ["", "null", "[1]", "{}", '{"questions": 3, "writer": {}}', '{"questions": [{"id": "x"}], "writer": {}}', "{"],
)
async def test_a_payload_that_is_no_extract_row_is_a_reason(payload: str) -> None:
    result, requests = await answered(sample_with(payload=payload), lambda _: "A")
    assert requests == []
    assert (result.row, result.ledger["reason"]) == (None, Reason.SAMPLE_INVALID)


# Log-probabilities


class ScoringEngine(EchoEngine):
    """Reports 0.6 for the right option, 0.3 for the first one, 0.05 for the others, nothing for the last of all."""

    async def generate(self, request: Request) -> Reply:
        reply = await super().generate(request)
        options = list(shown(request).values())
        scores = [math.log(0.6 if text == "blue" else 0.3 if n == 0 else 0.05) for n, text in enumerate(options)]
        return replace(reply, choice_logprobs=(*scores[:-1], None))


async def test_log_probabilities_are_votes_too() -> None:
    result, requests = await answered(
        sample_with(question(0)), lambda _: "noise", engine=ScoringEngine, mode="logprob", sampling={"temperature": 0.7}
    )
    assert all(request.choices == tuple(shown(request)) for request in requests)
    assert {(request.sampling.temperature, request.sampling.max_tokens) for request in requests} == {(0, 1)}
    for vote in rows(result)[0]["visual"]:
        gold = vote["order"].index("B")
        assert (vote["letter"], vote["correct"], vote["reply"]) == (LETTERS[gold], True, "")
        rest = 0.15 if gold == 0 else 0.4  # four of five letters are reported
        assert vote["gold_p"] == pytest.approx(0.6 / (0.6 + rest))
    # Without the further option the last letter is one of the four: where the gold stands there, it has no share.
    for vote in rows(result)[0]["text"]:
        last = vote["order"].index("B") == 3
        assert (vote["gold_p"] == 0, vote["correct"]) == (last, not last)


async def test_an_engine_without_log_probabilities_is_a_reason() -> None:
    result, _ = await answered(sample_with(question(0)), lambda _: "A", mode="logprob")
    assert (result.row, result.ledger["reason"]) == (None, Reason.REQUEST_FAILED)
    assert "answerer.mode" in result.ledger["detail"]


class SilentEngine(EchoEngine):
    """None of the letters is among the likely tokens."""

    async def generate(self, request: Request) -> Reply:
        return replace(await super().generate(request), choice_logprobs=(None,) * len(request.choices))


async def test_a_model_that_would_say_no_letter_is_wrong() -> None:
    result, _ = await answered(sample_with(question(0)), lambda _: "A", engine=SilentEngine, mode="logprob")
    assert {(vote["letter"], vote["correct"], vote["gold_p"]) for vote in rows(result)[0]["visual"]} == {
        (None, False, 0.0)
    }


# Confidence

CONFIDENT = {"confidence": {"level": 0.8, "budget": 24}}


def asked_of(requests: list[Request]) -> Counter[tuple[str, bool]]:
    """(stem, with image) -> requests."""
    return Counter((request.text.splitlines()[0], bool(request.images)) for request in requests)


async def test_only_what_is_undecided_is_asked_again() -> None:
    def mixed(request: Request) -> str:
        if "thing 0" in request.text:  # needs the image
            return seeing(request)
        if "thing 1" in request.text:  # cannot be answered at all
            return pick("red")(request)
        return pick("blue")(request)  # can be guessed

    ones = [question(n) for n in range(3)]
    result, requests = await answered(sample_with(*ones), mixed, **CONFIDENT)
    asked = asked_of(requests)
    good, failed, leaky = (one.stem for one in ones)
    assert asked[failed, True] == asked[failed, False] == 4
    assert asked[leaky, True] == asked[leaky, False] == 4
    level, thresholds = 0.8, recipe(**CONFIDENT).thresholds
    assert thresholds is not None
    for visual in (True, False):
        assert 4 < asked[good, visual] < 24
        votes = rows(result)[0]["visual" if visual else "text"]
        assert len(votes) == asked[good, visual]
        assert standing(counts(votes), thresholds, visual=visual, level=level) is Standing.CLEARED
        assert standing(counts(votes[:-4]), thresholds, visual=visual, level=level) is Standing.UNDECIDED
    # Later rotations go on where the first ones ended.
    name = rows(result)[0]["id"]
    orders = [order_of(vote["order"]) for vote in rows(result)[0]["text"]]
    assert orders == rotations(ones[0], name, len(orders), 0, extra=False)
    assert sorted(int(request.request_id.split("/")[2]) for request in requests) == list(range(len(requests)))


async def test_the_budget_ends_what_cannot_be_decided() -> None:
    def wavering(request: Request) -> str:
        if not request.images:
            return pick("red")(request)
        return pick("red" if int(request.request_id.split("/")[2]) % 4 == 0 else "blue")(request)

    budget = {"confidence": {"level": 0.8, "budget": 14}}
    result, requests = await answered(sample_with(question(0)), wavering, **budget)
    assert asked_of(requests)[question(0).stem, True] == 14
    assert len(rows(result)[0]["visual"]) == 14


async def test_failed_requests_use_up_the_budget() -> None:
    def blind(request: Request) -> str:
        if request.images:
            raise SampleFailedError(Reason.REQUEST_FAILED, "HTTP 500")
        return pick("red")(request)

    result, requests = await answered(sample_with(question(0)), blind, **CONFIDENT)
    assert asked_of(requests)[question(0).stem, True] == 24
    assert counts(rows(result)[0]["visual"]) == Counts(0, 0, 24)


def test_further_requests_carry_the_same_image_and_are_forgotten_afterwards() -> None:
    stage, image, sample = AnswerStage(recipe(**CONFIDENT)), picture(), sample_with(question(0))
    requests = list(stage.requests(sample, image, 1))
    replies = [Reply(seeing(request), "stop", 1, 1, 0.1) for request in requests]
    more = stage.outcome(sample, replies, 1)
    assert isinstance(more, More)
    assert more == stage.outcome(sample, replies, 1)
    assert all(request.images[0] is image for request in more.requests if request.images)
    while isinstance(more, More):
        replies += [Reply(seeing(request), "stop", 1, 1, 0.1) for request in more.requests]
        more = stage.outcome(sample, replies, 1)
    assert not isinstance(more, Drop)
    assert stage._images == {}


T = ThresholdsRecipe(visual_above=0.75, visual_inclusive=False, text_below=0.25, text_inclusive=False)


@pytest.mark.parametrize(
    ("successes", "trials", "visual", "expected"),
    [
        (0, 0, True, Standing.UNDECIDED),
        (0, 4, True, Standing.FAILED),
        (4, 4, True, Standing.UNDECIDED),
        (20, 20, True, Standing.CLEARED),
        (0, 4, False, Standing.UNDECIDED),
        (4, 4, False, Standing.FAILED),
        (0, 20, False, Standing.CLEARED),
        (5, 20, False, Standing.UNDECIDED),
    ],
)
def test_an_interval_clears_its_threshold_misses_it_or_holds_it(
    successes: int, trials: int, visual: bool, expected: Standing
) -> None:
    assert standing(Counts(trials, successes, 0), T, visual=visual, level=0.9) is expected


def test_a_threshold_that_nothing_exceeds_fails_at_once_unless_it_may_be_equalled() -> None:
    strict = T.model_copy(update={"visual_above": 1.0, "text_below": 0.0})
    allowed = strict.model_copy(update={"visual_inclusive": True, "text_inclusive": True})
    for visual, successes in ((True, 4), (False, 0)):
        assert standing(Counts(4, successes, 0), strict, visual=visual, level=0.9) is Standing.FAILED
        assert standing(Counts(4, successes, 0), allowed, visual=visual, level=0.9) is Standing.UNDECIDED


def test_thresholds_are_identity_only_where_they_change_what_is_asked() -> None:
    assert recipe().thresholds is None
    assert recipe(**CONFIDENT).thresholds == T
    with pytest.raises(ValueError, match="thresholds"):
        AnswerStageRecipe(**{**dict(recipe()), "thresholds": T})


def test_a_stem_that_looks_like_a_placeholder_stays_as_it_is() -> None:
    one = Question("What does the sign {question} say?", ("yes", "no"), 0)
    (first, *_) = AnswerStage(recipe()).requests(sample_with(one), picture(), 1)
    assert first.text.startswith("What does the sign {question} say?\nA) ")
