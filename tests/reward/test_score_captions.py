"""The reward as a whole: what readers of known habits earn a caption, and how they are asked."""

import asyncio
import hashlib
from collections import Counter
from itertools import groupby

import pytest

from caprl_core.data.reasons import Reason
from caprl_core.engines.protocol import Request
from caprl_core.errors import EngineDeadError, SampleFailedError
from caprl_core.qa.question import question_id
from caprl_core.qa.rotation import EXTRA, order_of
from caprl_core.reward.cache import ReadingCache
from caprl_core.reward.reward import score_captions
from support.asked_reader import ABSTAIN, caption, names, question, reader, reward_recipe, shown_options, stem_of
from support.echo_engine import EchoEngine

FOUR = [question(n, gold=n) for n in range(4)]
GOLD = {one.stem: one.gold_text for one in FOUR}
knows = names(lambda request: GOLD[stem_of(request)])
"""Always right."""


def draw(request: Request) -> float:
    """Uniform in [0, 1), by the request's content."""
    return int.from_bytes(hashlib.sha256(request.text.encode()).digest()[:4], "big") / 2**32


# Equation 3


async def test_a_reader_that_is_always_right_gives_1_and_the_released_scale_2() -> None:
    [score] = await score_captions([caption()], {"a": FOUR}, reader(knows), reward_recipe(), 0)
    assert (score.reward, score.accuracy, score.reason) == (1.0, 1.0, None)
    assert [one.outcome for one in score.draws] == ["right"] * 8
    [twice] = await score_captions([caption()], {"a": FOUR}, reader(knows), reward_recipe(terms__scale=2.0), 0)
    assert (twice.reward, twice.accuracy) == (2.0, 1.0)


async def test_a_reward_is_the_share_of_draws_that_are_right() -> None:
    """Thing 0 and 1 are told by the caption, 2 is confused, 3 is not in it: each asked once, 2 of 4 are right."""
    said = {FOUR[0].stem: "red", FOUR[1].stem: "blue", FOUR[2].stem: "white", FOUR[3].stem: ABSTAIN}
    recipe = reward_recipe(replacement=False, terms__abstained=0.25, terms__wrong=-0.5)
    [score] = await score_captions([caption()], {"a": FOUR}, reader(names(lambda r: said[stem_of(r)])), recipe, 0)
    outcomes = {one.question_id: one.outcome for one in score.draws}
    assert outcomes == {
        question_id("a", one): outcome
        for one, outcome in zip(FOUR, ["right", "right", "wrong", "abstained"], strict=True)
    }
    assert score.accuracy == 0.5
    assert score.reward == pytest.approx((1 + 1 - 0.5 + 0.25) / 4)


async def test_with_replacement_the_mean_is_over_draws_not_over_questions() -> None:
    only_first = names(lambda request: GOLD[stem_of(request)] if "thing 0" in request.text else ABSTAIN)
    scores = await score_captions(
        [caption(f"caption {n}") for n in range(50)], {"a": FOUR}, reader(only_first), reward_recipe(), 0
    )
    first = question_id("a", FOUR[0])
    for score in scores:
        assert score.reward == sum(one.question_id == first for one in score.draws) / 8
    assert len({score.reward for score in scores}) > 3


async def test_a_records_order_and_letter_tell_what_was_shown_and_said() -> None:
    shown: dict[str, str] = {}
    engine = reader(knows, asked=lambda request: shown.update(request_options(request)))

    def request_options(request: Request) -> dict[str, str]:
        return {f"{stem_of(request)}|{'|'.join(shown_options(request).values())}": "seen"}

    [score] = await score_captions([caption()], {"a": FOUR}, engine, reward_recipe(), 3)
    ids = {question_id("a", one): one for one in FOUR}
    for one in score.draws:
        asked = ids[one.question_id]
        texts = [ABSTAIN if place == EXTRA else asked.options[place] for place in order_of(one.order)]
        assert f"{asked.stem}|{'|'.join(texts)}" in shown
        assert one.letter == one.reply == "ABCDE"[texts.index(asked.gold_text)]


# Biased readers


async def always_a(shuffle: bool, abstain: str | None) -> float:
    """Mean reward of a reader that always says A, where the right option is always stored as A."""
    questions = {"a": [question(n, gold=0) for n in range(5)]}
    captions = [caption(f"caption {n}") for n in range(500)]
    recipe = reward_recipe(shuffle=shuffle, abstain=abstain)
    scores = await score_captions(captions, questions, reader(lambda _: "A", 64), recipe, 0)
    return sum(score.reward or 0.0 for score in scores) / len(scores)


@pytest.mark.parametrize("abstain", [None, ABSTAIN])
async def test_shuffling_takes_its_gain_from_a_reader_that_always_says_a(abstain: str | None) -> None:
    assert await always_a(False, abstain) == 1.0
    # 4,000 draws: 0.25 within 5 standard deviations.
    assert abs(await always_a(True, abstain) - 0.25) < 0.035


async def test_a_reader_that_abstains_in_words_is_never_right_by_its_first_letter() -> None:
    engine = reader(lambda _: "Can not answer based on the caption")
    questions = {"a": [question(n, gold=2) for n in range(4)]}
    [score] = await score_captions([caption()], questions, engine, reward_recipe(shuffle=False, abstain=None), 0)
    assert {one.outcome for one in score.draws} == {"abstained"}
    assert score.reward == 0.0


# Failures


def half_failing(answer, share: float = 0.5) -> EchoEngine:
    def say(request: Request) -> str:
        if draw(request) < share:
            raise SampleFailedError(Reason.REQUEST_FAILED, "to order")
        return answer(request)

    return reader(say, 64)


async def test_a_reader_that_fails_half_of_its_requests_makes_no_right_answer_a_zero() -> None:
    captions = [caption(f"caption {n}") for n in range(300)]
    scores = await score_captions(captions, {"a": FOUR}, half_failing(knows), reward_recipe(), 0)
    assert Counter(one.outcome for score in scores for one in score.draws).keys() == {"right", "failed"}
    assert {score.reward for score in scores} == {1.0, None}
    for score in scores:
        missing = sum(one.outcome == "failed" for one in score.draws)
        assert (score.reward is None) == (missing > 4)
        assert score.reason == ("too_few_answers" if missing > 4 else None)


@pytest.mark.parametrize("min_answered", [0.0, 0.5])
async def test_nor_does_it_move_the_expectation_of_any_reward(min_answered: float) -> None:
    """Of each caption, half of what is asked is told (things 0 and 1): 0.5 on average, with failures and without."""
    partly = names(lambda request: GOLD[stem_of(request)] if stem_of(request)[-2] in "01" else ABSTAIN)
    captions = [caption(f"caption {n}") for n in range(1500)]
    recipe = reward_recipe(min_answered=min_answered)
    means = []
    for engine in (reader(partly, 64), half_failing(partly)):
        rewards = [score.reward for score in await score_captions(captions, {"a": FOUR}, engine, recipe, 0)]
        given = [reward for reward in rewards if reward is not None]
        means.append(sum(given) / len(given))
    # Standard deviations 0.0046 and about 0.008.
    assert abs(means[0] - 0.5) < 0.025
    assert abs(means[1] - 0.5) < 0.04


async def test_what_fails_once_is_asked_again_after_all_others_and_then_counts_like_any_other() -> None:
    failed: set[str] = set()
    order: list[str] = []

    def flaky(request: Request) -> str:
        order.append(request.text)
        if draw(request) < 0.5 and request.text not in failed:
            failed.add(request.text)
            raise SampleFailedError(Reason.REQUEST_FAILED, "once")
        return knows(request)

    captions = [caption(f"caption {n}") for n in range(20)]
    recipe = reward_recipe(execution__retries=1)
    scores = await score_captions(captions, {"a": FOUR}, reader(flaky), recipe, 0)
    assert scores == await score_captions(captions, {"a": FOUR}, reader(knows), recipe, 0)
    assert failed
    assert set(order[-len(failed) :]) == failed
    assert len(order) == len(set(order)) + len(failed)


async def test_what_the_engine_refuses_is_missing_and_not_asked_again() -> None:
    def refuses(request: Request) -> str:
        raise SampleFailedError(Reason.REQUEST_REFUSED, "too long")

    engine = reader(refuses)
    [score] = await score_captions([caption()], {"a": FOUR}, engine, reward_recipe(execution__retries=3), 0)
    assert (score.reward, score.accuracy, score.reason) == (None, None, "too_few_answers")
    assert len(engine.requests) == len({(one.question_id, one.order) for one in score.draws})


async def test_a_dead_engine_ends_the_step_and_leaves_nobody_asking() -> None:
    def dies(request: Request) -> str:
        if draw(request) < 0.1:
            raise EngineDeadError("gone")
        return "A"

    engine = reader(dies, 16)
    with pytest.raises(EngineDeadError, match="gone"):
        await score_captions([caption(f"{n}") for n in range(40)], {"a": FOUR}, engine, reward_recipe(), 0)
    assert engine.inside == 0
    assert len(engine.requests) < 320


async def test_a_cancelled_step_frees_the_engine() -> None:
    engine = EchoEngine(16, lambda _: 30.0, lambda _: "A")
    step = asyncio.ensure_future(score_captions([caption()] * 3, {"a": FOUR}, engine, reward_recipe(), 0))
    while engine.inside == 0:
        await asyncio.sleep(0)
    step.cancel()
    with pytest.raises(asyncio.CancelledError):
        await step
    assert engine.inside == 0


# How it is asked


async def test_the_same_step_again_gives_the_same_scores_whatever_else_is_in_it() -> None:
    half = names(lambda request: GOLD[stem_of(request)] if draw(request) < 0.5 else ABSTAIN)
    captions = [caption(f"caption {n % 7}", key="ab"[n % 2], rollout=n) for n in range(28)]
    questions = {"a": FOUR, "b": FOUR[:2]}
    scores = await score_captions(captions, questions, reader(half), reward_recipe(), 5)
    assert scores == await score_captions(captions, questions, reader(half, 3), reward_recipe(), 5)
    backwards = await score_captions(captions[::-1], questions, reader(half), reward_recipe(), 5)
    assert backwards[::-1] == scores
    [alone] = await score_captions([captions[3]], questions, reader(half), reward_recipe(), 5)
    assert alone == scores[3]
    other_step = await score_captions(captions, questions, reader(half), reward_recipe(), 6)
    assert [score.draws for score in other_step] != [score.draws for score in scores]


async def test_requests_about_a_caption_are_neighbours_and_share_their_beginning() -> None:
    texts: list[str] = []
    engine = reader(knows, 16, asked=lambda request: texts.append(request.text))
    captions = [caption(f"Caption {n % 5} of a thing.", key="ab"[n % 2], rollout=n) for n in range(20)]
    await score_captions(captions, {"a": FOUR, "b": FOUR}, engine, reward_recipe(), 0)
    seen = [next(f"Caption {n} of" for n in range(5) if f"Caption {n} of" in text) for text in texts]
    assert [key for key, _ in groupby(seen)] == [f"Caption {n} of" for n in range(5)]
    assert engine.most_inside == 16
    for text in texts:
        assert text.index("Caption") < text.index("What colour")
    beginnings = {text[: text.index("What colour")] for text in texts}
    assert len(beginnings) == 5


async def test_a_question_drawn_twice_in_the_same_order_is_asked_once_and_counted_twice() -> None:
    engine = reader(lambda request: "A" if "thing 0" in request.text else "B")
    recipe = reward_recipe(shuffle=False)
    questions = {"a": [question(0), question(1)]}  # the first is answered right, the second wrong
    [score] = await score_captions([caption()], questions, engine, recipe, 0)
    assert len(engine.requests) == 2
    assert len(score.draws) == 8
    first = sum(one.question_id == question_id("a", question(0)) for one in score.draws)
    assert 0 < first < 8
    assert score.reward == first / 8


async def test_equal_captions_of_an_image_get_equal_rewards_for_the_price_of_one() -> None:
    engine = reader(knows)
    scores = await score_captions([caption(rollout=n) for n in range(6)], {"a": FOUR}, engine, reward_recipe(), 0)
    assert len({score.draws for score in scores}) == 1
    assert [score.rollout for score in scores] == list(range(6))
    assert len(engine.requests) <= 8


async def test_a_cache_kept_over_steps_spares_equal_requests_only() -> None:
    cache = ReadingCache(100)
    engine = reader(knows)
    recipe = reward_recipe(shuffle=False, replacement=False)
    first = await score_captions([caption()], {"a": FOUR}, engine, recipe, 0, cache=cache)
    again = await score_captions([caption()], {"a": FOUR}, engine, recipe, 1, cache=cache)
    assert len(engine.requests) == 4
    assert {one.outcome for one in again[0].draws} == {one.outcome for one in first[0].draws} == {"right"}
    await score_captions([caption("Another.")], {"a": FOUR}, engine, recipe, 1, cache=cache)
    assert len(engine.requests) == 8
    # Another reader, prompt or sampling is another answer.
    for change in ({"reader__model": {"name": "other"}}, {"reader__sampling": {"temperature": 0.1}}):
        asked = len(engine.requests)
        other = reward_recipe(shuffle=False, replacement=False, **change)
        await score_captions([caption()], {"a": FOUR}, engine, other, 0, cache=cache)
        assert len(engine.requests) == asked + 4


async def test_a_remembered_answer_is_judged_by_the_image_it_is_asked_about() -> None:
    """The same caption, question and options about another image, where another option is right."""
    cache = ReadingCache(100)
    recipe = reward_recipe(shuffle=False, draws=1)
    engine = reader(lambda _: "A")
    questions = {"a": [question(0, gold=0)], "b": [question(0, gold=1)]}
    scores = await score_captions([caption(), caption(key="b")], questions, engine, recipe, 0, cache=cache)
    assert [score.reward for score in scores] == [1.0, 0.0]
    assert len(engine.requests) == 1


async def test_sampling_is_the_recipes_with_a_seed_of_the_requests_own() -> None:
    asked: list[Request] = []
    engine = reader(knows, asked=asked.append)
    await score_captions([caption(), caption("Another.")], {"a": FOUR}, engine, reward_recipe(), 0)
    assert {(r.sampling.temperature, r.sampling.top_p, r.sampling.max_tokens) for r in asked} == {(0.6, 1.0, 10)}
    assert len({request.sampling.seed for request in asked}) == len({request.text for request in asked}) == len(asked)
    assert len({request.request_id for request in asked}) == len(asked)
    assert not any(request.images for request in asked)


# Terms and missing values


async def test_terms_are_added_to_the_accuracy() -> None:
    recipe = reward_recipe(terms={"length": {"full": 10, "none": 20, "weight": 0.2}, "format": 0.1})
    [score] = await score_captions([caption(tokens=15)], {"a": FOUR}, reader(knows), recipe, 0)
    assert score.reward == pytest.approx(1 + 0.1 + 0.1)
    assert score.terms == {"length": 0.5, "format": 1.0}


async def test_a_caption_whose_length_is_not_known_has_no_reward_where_length_counts() -> None:
    terms = {"length": {"full": 10, "none": 20, "weight": 0.2}, "truncated": "nothing"}
    some = [caption(), caption(tokens=15), caption(truncated=True)]
    engine = reader(knows)
    scores = await score_captions(some, {"a": FOUR}, engine, reward_recipe(terms=terms), 0)
    assert [score.reward for score in scores] == [None, pytest.approx(1.1), 0.0]
    assert [score.reason for score in scores] == ["no_tokens", None, None]
    assert [len(score.draws) for score in scores] == [0, 8, 0], "it is not asked about"


async def test_a_truncated_caption_can_be_made_to_earn_nothing() -> None:
    engine = reader(knows)
    cut = caption(truncated=True)
    [score] = await score_captions([cut], {"a": FOUR}, engine, reward_recipe(terms__truncated="nothing"), 0)
    assert (score.reward, score.accuracy, score.draws, engine.requests) == (0.0, None, (), [])
    [score] = await score_captions([cut], {"a": FOUR}, engine, reward_recipe(), 0)
    assert score.reward == 1.0


async def test_an_image_without_questions_gives_no_reward_and_says_why() -> None:
    scores = await score_captions(
        [caption(key="x"), caption()], {"a": FOUR, "x": []}, reader(knows), reward_recipe(), 0
    )
    assert [(score.reward, score.reason) for score in scores] == [(None, "no_questions"), (1.0, None)]
    assert await score_captions([], {"a": FOUR}, reader(knows), reward_recipe(), 0) == []


async def test_text_that_utf_8_cannot_carry_is_asked_all_the_same() -> None:
    asked: list[Request] = []
    [score] = await score_captions(
        [caption("half \ud83d")], {"a": FOUR}, reader(knows, asked=asked.append), reward_recipe(), 0
    )
    assert score.reward == 1.0
    assert all(request.text.encode() for request in asked)
