"""The answers on the page: of every benchmark and outcome, of different images, and the same for the same seed."""

from collections import Counter

from caprl_core.prism.page.choosing import EXAMPLES, MOST, ChosenAnswer, choose_answers
from support.made_runs import Points, scored_points

MIXED: Points = {
    name: {
        f"{name}-{image}": {f"{image}": [1.0, 0.0, 0.5, None] if image % 2 else [1.0, 1.0, 1.0, 1.0]}
        for image in range(40)
    }
    for name in ("charts", "maps", "photos")
}
"""Right answers mostly; points of 0 were not read, those of 0.5 abstain, None failed."""


def chosen(
    points: Points = MIXED, count: int | None = None, seed: int = 0, scorer: str = "choice"
) -> list[ChosenAnswer]:
    return choose_answers(scored_points(points, scorer=scorer).answers, list(points), count=count, seed=seed)


def test_they_are_spread_over_benchmarks_and_outcomes() -> None:
    found = chosen()
    assert len(found) == EXAMPLES
    assert set(Counter(one.benchmark for one in found).values()) == {8}
    kinds = Counter((one.benchmark, one.outcome) for one in found)
    assert {outcome for _, outcome in kinds} == {"right", "unparsed", "abstained"}
    assert max(kinds.values()) - min(kinds.values()) <= 1


def test_they_stand_in_the_order_of_the_benchmarks() -> None:
    names = [one.benchmark for one in chosen()]
    assert names == sorted(names)


def test_no_image_comes_twice_while_others_are_left() -> None:
    assert max(Counter(one.image for one in chosen()).values()) == 1
    few = chosen({"charts": {"only": {"q": [1.0, 1.0, 1.0]}}})
    assert len(few) == 3


def test_failed_requests_are_never_shown() -> None:
    assert chosen({"charts": {"a": {"q": [None, None]}}}) == []
    assert all(one.points == one.points for one in chosen())


def test_partly_right_answers_are_an_outcome_of_their_own_and_so_is_abstaining() -> None:
    points: Points = {"charts": {"a": {"q": [0.5, 1.0, 0.7]}}}
    assert [one.outcome for one in chosen(points)] == ["right", "partly", "abstained"]
    assert [one.outcome for one in chosen(points, scorer="match")] == ["right", "partly", "partly"]


def test_the_choice_depends_on_the_seed_alone() -> None:
    assert chosen() == chosen()
    assert chosen() != chosen(seed=1)


def test_many_benchmarks_have_more_examples_and_very_many_still_few() -> None:
    many: Points = {f"b{n:02d}": MIXED["charts"] for n in range(12)}
    assert len(chosen(many)) == 36
    assert len(chosen({f"b{n:02d}": MIXED["charts"] for n in range(40)})) == MOST


def test_the_answer_is_told_with_what_was_read() -> None:
    one = next(one for one in chosen() if one.outcome == "right")
    assert (one.read, one.points, one.scorer, one.released_points) == ("B", 1.0, "choice", None)
