"""The filter keeps what the image is needed for, gives every other question its reason, and shuffles fairly."""

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caprl_core.qa.evidence import interval
from caprl_core.qa.filter import ImageFacts, Verdict, arranged, decide, split_of
from caprl_core.qa.question import LETTERS
from caprl_core.qa.reasons import QuestionReason
from caprl_core.recipe.qa import FilterRecipe
from support.answered_dataset import asked, probabilities, votes

IMAGE = ImageFacts("ab" * 32)
GOOD = (votes(4), votes(0, 4))
RELEASED = FilterRecipe()


def one(visual: list[dict], text: list[dict], recipe: FilterRecipe = RELEASED, image: ImageFacts = IMAGE) -> Verdict:
    (verdict,) = decide([asked("k", 1, visual, text)], image, recipe)
    return verdict


@pytest.mark.parametrize(
    ("visual", "text", "changes", "reason"),
    [
        (4, 0, {}, None),
        # The released thresholds are strict: with four rotations only 4 of 4 and 0 of 4 pass.
        (3, 0, {}, "visual_too_low"),
        (4, 1, {}, "text_too_high"),
        (3, 1, {}, "visual_too_low"),
        (3, 0, {"visual_inclusive": True}, None),
        (2, 0, {"visual_inclusive": True}, "visual_too_low"),
        (4, 1, {"text_inclusive": True}, None),
        (4, 2, {"text_inclusive": True}, "text_too_high"),
        (3, 1, {"visual_above": 0.5, "text_below": 0.5}, None),
    ],
)
def test_thresholds_and_their_strictness(visual: int, text: int, changes: dict, reason: str | None) -> None:
    recipe = FilterRecipe(**changes)
    assert one(votes(visual, 4 - visual), votes(text, 4 - text), recipe).reason == reason


@pytest.mark.parametrize(
    ("visual", "text", "reason"),
    [
        (votes(2, 0, failed=2), votes(0, 4), None),  # half of the votes is enough
        (votes(1, 0, failed=3), votes(0, 4), "unanswered"),
        (votes(4), votes(0, 1, failed=3), "unanswered"),
        (votes(0, 0, failed=4), votes(0, 4), "unanswered"),
        ([], votes(0, 4), "unanswered"),
        (votes(4), [], "unanswered"),
        (votes(0, 1, failed=3), votes(4), "unanswered"),  # before any judgement
    ],
)
def test_failed_requests_count_neither_for_nor_against(visual: list, text: list, reason: str | None) -> None:
    assert one(visual, text).reason == reason


def test_a_verdict_carries_the_evidence() -> None:
    verdict = one(votes(3, 0, failed=1), votes(1, 3))
    assert verdict.visual == (3, 3, 1, 1.0, *interval(3, 3, 0.9))
    assert verdict.text == (1, 4, 0, 0.25, *interval(1, 4, 0.9))
    assert one(votes(0, failed=4), votes(0, 4)).visual == (0, 0, 4, None, None, None)


@pytest.mark.parametrize(("order", "chance"), [("ABCD", 0.75**4), ("ABCD-", 0.8**4), ("AB", 0.5**4)])
def test_the_blind_chance_goes_by_the_letters_offered_without_the_image(order: str, chance: float) -> None:
    assert one(votes(4), votes(0, 4, order=order)).blind_chance == pytest.approx(chance)


def test_probabilities_are_averaged_and_get_no_interval() -> None:
    verdict = one(probabilities(0.9, 0.8, 0.7, 0.8), probabilities(0.1, 0.2, 0.3, 0.1))
    assert verdict.kept and verdict.blind_chance is None
    assert verdict.visual.accuracy == pytest.approx(0.8) and verdict.text.accuracy == pytest.approx(0.175)
    assert (verdict.visual.low, verdict.visual.high) == (verdict.text.low, verdict.text.high) == (None, None)
    # Every letter is right, yet the mean is not above the threshold.
    assert one(probabilities(*[0.7] * 4), probabilities(*[0.1] * 4)).reason == "visual_too_low"


@pytest.mark.parametrize(
    ("visual", "text", "reason"),
    [
        (votes(4), votes(0, 4), "uncertain"),  # 4 of 4 may still be 0.47
        (votes(11), votes(0, 11), None),
        (votes(11), votes(0, 10), "uncertain"),
        (votes(10), votes(0, 11), "uncertain"),
        (votes(4), votes(4), "text_too_high"),  # a failed threshold is told first
        (probabilities(*[1.0] * 11), probabilities(*[0.0] * 11), "uncertain"),  # nothing is known of their spread
    ],
)
def test_confidence_asks_the_intervals_too(visual: list, text: list, reason: str | None) -> None:
    assert one(visual, text, FilterRecipe(confident=True)).reason == reason


def test_the_cap_keeps_the_best_evidence_and_then_the_stored_order() -> None:
    recipe = FilterRecipe(per_image=2, visual_above=0.5, text_below=0.5)
    evidence = [(votes(3, 1), votes(0, 4)), (votes(4), votes(1, 3)), (votes(4), votes(0, 4)), (votes(4), votes(1, 3))]
    questions = [asked("k", number, *branches) for number, branches in enumerate(evidence)]
    reasons = [verdict.reason for verdict in decide(questions, IMAGE, recipe)]
    assert reasons == ["over_cap", None, None, "over_cap"]


def test_the_cap_counts_only_questions_that_pass() -> None:
    questions = [asked("k", 1, votes(0, 4), votes(0, 4)), asked("k", 2, *GOOD), asked("k", 3, *GOOD)]
    reasons = [verdict.reason for verdict in decide(questions, IMAGE, FilterRecipe(per_image=1))]
    assert reasons == ["visual_too_low", None, "over_cap"]


def test_questions_on_listed_images_are_given_up_whatever_their_evidence_says() -> None:
    verdicts = decide(
        [asked("k", 1, *GOOD), asked("k", 2, votes(4), votes(4))], ImageFacts("ab" * 32, contaminated=True), RELEASED
    )
    assert [verdict.reason for verdict in verdicts] == ["contaminated", "text_too_high"]
    assert all(verdict.split is None for verdict in verdicts)


def test_no_questions_no_verdicts() -> None:
    assert decide([], IMAGE, RELEASED) == []


# Split


def test_an_image_is_on_one_side_and_the_share_is_met() -> None:
    recipe = FilterRecipe(held_out=0.2)
    sides = Counter(split_of(f"{number:064x}", recipe) for number in range(5000))
    assert sides["held_out"] == pytest.approx(1000, abs=100)
    verdicts = decide([asked("k", number, *GOOD) for number in range(5)], IMAGE, recipe)
    assert len({verdict.split for verdict in verdicts}) == 1


def test_the_split_depends_on_seed_and_content_alone() -> None:
    digests = [f"{number:064x}" for number in range(200)]
    first, second = (FilterRecipe(held_out=0.5, seed=seed) for seed in (0, 1))
    sides = [split_of(digest, first) for digest in digests]
    assert sides == [split_of(digest, first) for digest in digests]
    assert sides != [split_of(digest, second) for digest in digests]
    assert all(split_of(digest, RELEASED) == "train" for digest in digests)


def test_a_larger_share_only_adds_images_to_the_held_out_side() -> None:
    digests = [f"{number:064x}" for number in range(500)]
    small, large = (
        {digest for digest in digests if split_of(digest, FilterRecipe(held_out=share)) == "held_out"}
        for share in (0.1, 0.3)
    )
    assert small < large


# Balance


def test_the_gold_lands_everywhere_equally_often() -> None:
    questions = [asked("k", number, *GOOD, gold=0) for number in range(4000)]
    places = Counter(verdict.place for verdict in decide(questions, IMAGE, RELEASED))
    assert sorted(places) == [0, 1, 2, 3]
    # Chi-square with three degrees of freedom: 16.3 is exceeded once in a thousand seeds, and this seed is fixed.
    assert sum((count - 1000) ** 2 / 1000 for count in places.values()) < 16.3


def test_places_change_with_the_seed_and_not_from_run_to_run() -> None:
    questions = [asked("k", number, *GOOD) for number in range(50)]
    places = [[verdict.place for verdict in decide(questions, IMAGE, FilterRecipe(seed=s))] for s in (0, 0, 1)]
    assert places[0] == places[1] != places[2]


def test_keep_leaves_the_writers_order() -> None:
    questions = [asked("k", number, *GOOD, gold=number % 4) for number in range(20)]
    verdicts = decide(questions, IMAGE, FilterRecipe(balance="keep"))
    assert [verdict.place for verdict in verdicts] == [number % 4 for number in range(20)]
    assert all(
        arranged(question, verdict.place) == question["options"]
        for question, verdict in zip(questions, verdicts, strict=True)
    )


OPTIONS = st.lists(st.text(max_size=5), min_size=2, max_size=6, unique=True)


@given(OPTIONS, st.data())
def test_moving_the_gold_keeps_every_text_and_the_others_order(options: list[str], data: st.DataObject) -> None:
    gold = data.draw(st.integers(0, len(options) - 1))
    question = asked("k", 1, *GOOD, options=options, gold=gold)
    (verdict,) = decide([question], IMAGE, FilterRecipe(seed=data.draw(st.integers(0, 99))))
    moved = arranged(question, verdict.place)
    assert moved[verdict.place] == options[gold]
    assert [text for text in moved if text != options[gold]] == [text for text in options if text != options[gold]]


# Every question, exactly one verdict

VOTES = st.builds(votes, st.integers(0, 5), st.integers(0, 5), st.integers(0, 3)) | st.lists(
    st.floats(0, 1), max_size=5
).map(lambda values: probabilities(*values))
RECIPES = st.builds(
    FilterRecipe,
    visual_above=st.sampled_from([0, 0.5, 0.75, 1]),
    visual_inclusive=st.booleans(),
    text_below=st.sampled_from([0, 0.25, 0.5, 1]),
    text_inclusive=st.booleans(),
    confident=st.booleans(),
    per_image=st.sampled_from([None, 1, 2]),
    held_out=st.sampled_from([0, 0.5]),
    balance=st.sampled_from(["keep", "shuffle"]),
)


@given(st.lists(st.tuples(VOTES, VOTES), max_size=6), RECIPES, st.booleans())
def test_every_question_gets_one_verdict_in_order(
    branches: list[tuple[list[dict[str, Any]], list[dict[str, Any]]]], recipe: FilterRecipe, contaminated: bool
) -> None:
    questions = [asked("k", number, *both) for number, both in enumerate(branches)]
    verdicts = decide(questions, ImageFacts("cd" * 32, contaminated), recipe)
    assert [verdict.id for verdict in verdicts] == [question["id"] for question in questions]
    kept = [verdict for verdict in verdicts if verdict.kept]
    assert all((verdict.split is not None) == verdict.kept for verdict in verdicts)
    assert recipe.per_image is None or len(kept) <= recipe.per_image
    assert not (contaminated and kept)
    for verdict in verdicts:
        assert verdict.reason is None or isinstance(verdict.reason, QuestionReason)
        assert 0 <= verdict.place < len(LETTERS)
        for branch in (verdict.visual, verdict.text):
            assert branch.accuracy is None or 0 <= branch.accuracy <= 1
            assert branch.low is None or branch.low <= branch.accuracy <= branch.high


@given(st.lists(st.tuples(VOTES, VOTES), max_size=6))
def test_stricter_thresholds_keep_no_more(branches: list[tuple[list, list]]) -> None:
    questions = [asked("k", number, *both) for number, both in enumerate(branches)]

    def kept(**changes: Any) -> set[str]:
        return {verdict.id for verdict in decide(questions, IMAGE, FilterRecipe(**changes)) if verdict.kept}

    loose = kept(visual_above=0.5, text_below=0.5, visual_inclusive=True, text_inclusive=True)
    assert kept(visual_above=0.5, text_below=0.5) <= loose
    assert kept(confident=True, visual_above=0.5, text_below=0.5) <= kept(visual_above=0.5, text_below=0.5)
    assert kept() <= loose
