"""The figures of the report page are those of counting by hand, and shards add up to the whole."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caprl_core.qa.filter import ImageFacts, decide
from caprl_core.qa.sets.question_types import question_type
from caprl_core.qa.sets.stats import CurationStats, stats_of
from caprl_core.recipe.qa import FilterRecipe
from support.answered_dataset import asked, probabilities, votes

RECIPE = FilterRecipe(balance="keep")


def counted(images: list[list[dict[str, Any]]], recipe: FilterRecipe = RECIPE) -> CurationStats:
    judged = [
        (questions, decide(questions, ImageFacts(f"{number:064x}"), recipe)) for number, questions in enumerate(images)
    ]
    return stats_of(judged, 4)


IMAGES = [
    [
        asked("a", 1, votes(4), votes(0, 4), stem="What is red?", gold=1),
        asked("a", 2, votes(4), votes(1, 3), stem="How many are there?"),
        asked("a", 3, votes(3, 1), votes(0, 4), stem="Which one?"),
    ],
    [
        asked("b", 1, votes(4), votes(0, 4), stem="In the chart, where is it?", gold=3),
        asked("b", 2, votes(4), votes(0, 4), stem="What is blue?", gold=1),
        asked("b", 3, votes(0, 1, failed=3), votes(0, 4)),
    ],
    [asked("c", 1, votes(1, 3), votes(4), stem="图中有几只猫?", options=("1 只", "2 只"))],
]


def test_the_funnel_says_what_is_left_after_each_step() -> None:
    funnel = counted(IMAGES).funnel
    assert {step: funnel[step] for step in ("parsed", "answered", "visual_pass", "text_pass", "certain", "kept")} == {
        "parsed": 7, "answered": 6, "visual_pass": 4, "text_pass": 3, "certain": 3, "kept": 3,
    }  # fmt: skip
    assert counted(IMAGES).reasons == {"text_too_high": 1, "unanswered": 1, "visual_too_low": 2}


def test_the_histogram_is_visual_by_text_accuracy() -> None:
    histogram = counted(IMAGES).histogram
    assert len(histogram) == 5 and all(len(row) == 5 for row in histogram)
    cells = {(v, t): count for v, row in enumerate(histogram) for t, count in enumerate(row) if count}
    assert cells == {(4, 0): 3, (4, 1): 1, (3, 0): 1, (1, 4): 1}


def test_kept_questions_per_image_letters_and_types() -> None:
    stats = counted(IMAGES)
    assert stats.kept == {"train": 3} and stats.images_kept == {"train": 2}
    assert stats.kept_per_image == (1, 1, 1)
    assert stats.gold_before == stats.gold_after == {"B": 2, "D": 1}
    assert stats.types_answered == {"how many": 1, "number": 1, "what": 2, "where": 1, "which": 1}
    assert stats.types_kept == {"what": 2, "where": 1}
    assert (stats.votes, stats.failed_votes) == (14 * 4 - 3, 3)


def test_shuffling_moves_letters_after_and_not_before() -> None:
    images = [[asked("k", number, votes(4), votes(0, 4)) for number in range(200)]]
    stats = counted(images, FilterRecipe())
    assert stats.gold_before == {"A": 200} and sorted(stats.gold_after) == ["A", "B", "C", "D"]
    assert sum(stats.gold_after.values()) == 200


def test_leaks_are_what_blind_guessing_alone_would_let_through() -> None:
    # Four questions pass the visual filter; a blind guesser passes the text filter with 0.316 on each.
    stats = counted(IMAGES)
    assert stats.expected_leaks == pytest.approx(4 * 0.75**4)
    assert stats.blind_pass_chance == pytest.approx(0.75**4) and stats.blind_count == 6
    # Probabilities are no guesses.
    without = counted([[asked("k", 1, probabilities(0.9), probabilities(0.1))]])
    assert without.blind_pass_chance is None and without.expected_leaks == 0 and without.kept == {"train": 1}


def test_no_questions_at_all() -> None:
    stats = counted([])
    assert stats.kept_per_image == () and stats.blind_pass_chance is None and set(stats.funnel.values()) == {0}


VOTES = st.builds(votes, st.integers(0, 4), st.integers(0, 4), st.integers(0, 2))


@given(st.lists(st.lists(st.tuples(VOTES, VOTES), max_size=4), max_size=8), st.data())
def test_shards_add_up_to_the_whole(shapes: list[list[tuple[list, list]]], data: st.DataObject) -> None:
    images = [[asked(str(n), m, *both) for m, both in enumerate(some)] for n, some in enumerate(shapes)]
    judged = [(questions, decide(questions, ImageFacts("ab" * 32), FilterRecipe())) for questions in images]
    whole = stats_of(judged, 4)
    cut = data.draw(st.integers(0, len(images)))
    parts = [stats_of(judged[:cut], 4), stats_of(judged[cut:], 4)]
    for merged in (parts[0].merged(parts[1]), parts[1].merged(parts[0])):
        assert _close(merged, whole)
    assert sum(whole.kept_per_image) == len(images)
    assert sum(map(sum, whole.histogram)) == whole.funnel["answered"]
    assert whole.parsed == sum(whole.kept.values()) + sum(whole.reasons.values())


def _close(one: CurationStats, other: CurationStats) -> bool:
    """Equal, but for the last digits of sums of floats."""
    left, right = one.as_json(), other.as_json()
    for name in ("blind_sum", "expected_leaks", "blind_pass_chance"):
        assert left.pop(name) == pytest.approx(right.pop(name)), name
    return left == right


def test_stages_keep_their_order_when_merged() -> None:
    stages = {"generate": {"samples": 3, "rows": 2}, "extract": {"samples": 2, "rows": 2}}
    stats = CurationStats(4, stages=stages).merged(CurationStats(4, stages=stages))
    assert list(stats.stages) == ["generate", "extract"] and stats.stages["generate"] == {"rows": 4, "samples": 6}
    assert (stats.funnel["images"], stats.funnel["blocks"]) == (6, 4)


def test_histograms_of_other_sizes_do_not_add_up() -> None:
    with pytest.raises(ValueError, match="4 and 8 rotations"):
        CurationStats(4).merged(CurationStats(8))


def test_stats_survive_json() -> None:
    stats = counted(IMAGES).merged(CurationStats(4, refused={"cut": 2}, stages={"answer": {"samples": 3}}))
    assert CurationStats.from_json(json.loads(json.dumps(stats.as_json()))) == stats


@pytest.mark.parametrize(
    ("stem", "kind"),
    [
        ("What colour is it?", "what"),
        ("  how many dogs?", "how many"),
        ("How much does it cost?", "how much"),
        ("How is it made?", "how"),
        ("Whose hat is it?", "who"),
        ("Is the door open?", "is"),
        ("According to the table, which row is first?", "which"),
        ("Based on the figure, how  many bars are there?", "how many"),
        ("The sign, what does it say", "what"),
        ("Somewhat blue things whatever", "other"),
        ("Name the animal.", "other"),
        ("", "other"),
        ("how", "how"),
        ("图中是什么颜色?", "other"),
        ("x" * 10_000_000 + " what", "other"),
    ],
)
def test_question_types(stem: str, kind: str) -> None:
    assert question_type(stem, ["red", "green"]) == kind


def test_questions_in_other_words_are_told_by_their_options() -> None:
    assert question_type("图中有几只猫?", ["1", "2 只", "30"]) == "number"
    assert question_type("图中有几只猫?", ["1", "two"]) == "other"
    assert question_type("?", ["", "1"]) == "other"


@given(st.text(), st.lists(st.text(), max_size=6))
def test_any_question_has_a_type(stem: str, options: list[str]) -> None:
    assert question_type(stem, options)
