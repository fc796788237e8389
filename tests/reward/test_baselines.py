"""The rewards the paper compares with: a judge's rating, and overlap with a reference."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caprl_core.data.reasons import Reason
from caprl_core.data.sample import PreparedImage
from caprl_core.engines.protocol import Request
from caprl_core.errors import SampleFailedError
from caprl_core.recipe.reward import JudgeRecipe
from caprl_core.reward.baselines import common_words, judge_reward, overlap_reward, read_rating
from support.asked_reader import caption, reader
from support.curated_set import picture

JUDGE = JudgeRecipe.model_validate(
    {"model": {"name": "test/judge"}, "execution": {"engine": {"kind": "transformers"}, "retries": 1}}
)


@pytest.fixture
def images() -> dict[str, PreparedImage]:
    return {"a": picture(), "b": picture()}


@pytest.mark.parametrize(
    ("reply", "rating"),
    [
        ("4", 4),
        (" 1\n", 1),
        ("5.", 5),
        ("**3**", 3),
        ("4/5", 4),
        ("2 out of 5", 2),
        ("Rating: 4", 4),
        ("The score is 4.", 4),
        ("0", None),
        ("6", None),
        ("45", None),
        ("4.5", None),
        ("4 or 5", None),
        ("3/10", None),
        ("four", None),
        ("I would say 4 because 2 things are missing", None),
        ("", None),
        ("4" * 10_000, None),
    ],
)
def test_a_rating_is_one_whole_number_from_1_to_5_or_nothing(reply: str, rating: int | None) -> None:
    assert read_rating(reply) == rating


@given(st.text())
def test_no_reply_breaks_the_reading(reply: str) -> None:
    assert read_rating(reply) in (None, 1, 2, 3, 4, 5)


async def test_ratings_become_rewards_from_0_to_1_and_the_judge_sees_the_picture(images: dict) -> None:
    asked: list[Request] = []
    engine = reader(lambda request: "5" if "good" in request.text else "2", asked=asked.append)
    captions = [caption("good"), caption("bad {caption}", key="b"), caption("good too", rollout=1)]
    judged = await judge_reward(captions, images, engine, JUDGE)
    assert [(one.key, one.rollout, one.rating, one.reward) for one in judged] == [
        ("a", 0, 5, 1.0),
        ("b", 0, 2, 0.25),
        ("a", 1, 5, 1.0),
    ]
    assert [request.images for request in asked] == [(images["a"],), (images["a"],), (images["b"],)]
    assert "bad {caption}" in asked[2].text


async def test_a_failed_or_unreadable_rating_is_missing_never_zero(images: dict) -> None:
    failed: list[str] = []

    def say(request: Request) -> str:
        if "flaky" in request.text and not failed:
            failed.append(request.text)
            raise SampleFailedError(Reason.REQUEST_FAILED, "once")
        if "lost" in request.text:
            raise SampleFailedError(Reason.REQUEST_FAILED, "always")
        return "what a picture!" if "chatty" in request.text else "3"

    captions = [caption(text) for text in ("flaky", "lost", "chatty")]
    judged = await judge_reward(captions, images, reader(say), JUDGE)
    assert [(one.rating, one.reward) for one in judged] == [(3, 0.5), (None, None), (None, None)]
    assert judged[2].reply == "what a picture!"


@pytest.mark.parametrize(
    ("ours", "theirs", "f1"),
    [
        ("a red ball", "a red ball", 1.0),
        ("A RED, ball!", "a red ball", 1.0),
        ("a big ball", "a red ball", 2 * 2 / 6),  # a, ball
        ("ball red a", "a red ball", 2 * 1 / 6),  # order counts
        ("a a a a", "a", 2 * 1 / 5),
        ("", "a red ball", 0.0),
        ("...", "a red ball", 0.0),
        ("\u7ea2\u8272\u7684\u7403", "\u7ea2\u7403", 2 * 2 / 6),
    ],
)
def test_overlap_is_the_f1_of_the_longest_common_subsequence(ours: str, theirs: str, f1: float) -> None:
    assert overlap_reward(ours, theirs) == pytest.approx(f1)


words = st.lists(st.sampled_from("abcd"), max_size=12)


@given(words, words)
def test_the_rows_of_bits_agree_with_the_textbook_table(ours: list[str], theirs: list[str]) -> None:
    table = [[0] * (len(theirs) + 1) for _ in range(len(ours) + 1)]
    for i, mine in enumerate(ours):
        for j, other in enumerate(theirs):
            table[i + 1][j + 1] = table[i][j] + 1 if mine == other else max(table[i][j + 1], table[i + 1][j])
    assert common_words(ours, theirs) == table[-1][-1]


@given(st.text(), st.text())
def test_overlap_is_between_0_and_1_and_takes_sides_with_nobody(ours: str, theirs: str) -> None:
    assert 0.0 <= overlap_reward(ours, theirs) == overlap_reward(theirs, ours) <= 1.0
