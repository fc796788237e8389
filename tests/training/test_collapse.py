"""When a curve says that training has gone wrong, and when it does not."""

import json
import math
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caprl_core.recipe.training import CollapseRecipe
from caprl_core.training.collapse import CollapseWatch
from caprl_core.training.curve import append_line, read_lines

HEALTHY = {
    "loss": 0.01,
    "reward": 0.4,
    "grad_norm": 0.7,
    "entropy": 0.9,
    "length_mean": 50.0,
    "truncated": 0.02,
    "repetitive": 0.01,
    "abstained": 0.3,
}


def line(step: int, **changes: Any) -> dict[str, Any]:
    return {"step": step, **HEALTHY, **changes}


def told(recipe: CollapseRecipe, lines: Iterable[dict[str, Any]]) -> list[str | None]:
    watch = CollapseWatch(recipe)
    return [watch.add(one) for one in lines]


def first_stop(recipe: CollapseRecipe, lines: Iterable[dict[str, Any]]) -> tuple[int, str] | None:
    """The number of lines told when it first said to stop, and what it said."""
    return next(((place, said) for place, said in enumerate(told(recipe, lines), 1) if said is not None), None)


def test_a_healthy_run_goes_on() -> None:
    assert set(told(CollapseRecipe(), (line(step) for step in range(1, 500)))) == {None}


@pytest.mark.parametrize(
    ("name", "bad", "field", "said"),
    [
        ("length_mean", 900.0, "length_factor", "{times:.1f} times longer: {mean:.1f} tokens on average"),
        ("truncated", 0.9, "truncated", "{mean:.1%} of the captions were cut at the token limit"),
        ("repetitive", 0.75, "repetitive", "{mean:.1%} of the captions repeat themselves"),
        ("abstained", 1.0, "abstained", "{mean:.1%} of its answers the reader declined to give"),
        ("entropy", 0.0, "entropy_below", "The entropy was {mean:.2g} nats a token on average"),
    ],
)
def test_each_collapse_is_told_with_its_figures_and_what_to_change(
    name: str, bad: float, field: str, said: str
) -> None:
    recipe = CollapseRecipe(window=4)
    lines = [line(step) for step in range(1, 9)] + [line(step, **{name: bad}) for step in range(9, 40)]
    found = first_stop(recipe, lines)
    assert found is not None
    place, reason = found
    assert 8 < place <= 8 + recipe.window  # as soon as the window's mean is there, at the latest when it is all bad
    mean = sum(one[name] for one in lines[place - 4 : place]) / 4
    assert said.format(mean=mean, times=mean / HEALTHY[name]) in reason
    assert "over the last 4 steps" in reason
    assert f"(collapse.{field})" in reason
    assert any(lever in reason for lever in ("grpo.", "reward.terms", "optimiser."))


@pytest.mark.parametrize("name", ["length_factor", "truncated", "repetitive", "abstained", "entropy_below"])
def test_what_the_recipe_does_not_watch_never_stops_a_run(name: str) -> None:
    bad = {"length_mean": 9000.0, "truncated": 1.0, "repetitive": 1.0, "abstained": 1.0, "entropy": 0.0}
    unwatched = {"length_factor": "length_mean", "entropy_below": "entropy"}.get(name, name)
    lines = [line(1), line(2)] + [line(step, **{unwatched: bad[unwatched]}) for step in range(3, 30)]
    assert first_stop(CollapseRecipe(window=2), lines) is not None
    assert first_stop(CollapseRecipe.model_validate({"window": 2, name: None}), lines) is None


def test_one_bad_step_among_good_ones_is_no_collapse() -> None:
    lines = [line(step, truncated=1.0 if step % 5 == 0 else 0.0) for step in range(1, 100)]
    assert first_stop(CollapseRecipe(window=10), lines) is None
    assert first_stop(CollapseRecipe(window=1), lines) is not None


def test_nothing_is_judged_before_the_first_window_is_full() -> None:
    lines = [line(step, truncated=1.0, abstained=1.0) for step in range(1, 20)]
    found = first_stop(CollapseRecipe(window=10), lines)
    assert found is not None
    assert found[0] == 10


def test_length_is_compared_with_the_first_window_not_with_the_last() -> None:
    # Growing by 2 % a step: no window is far from the one before, yet step 120 is ten times step 1.
    lines = [line(step, length_mean=20 * 1.02**step) for step in range(1, 200)]
    found = first_stop(CollapseRecipe(window=10, length_factor=8), lines)
    assert found is not None
    place = found[0]
    first, last = (sum(one["length_mean"] for one in some) for some in (lines[:10], lines[place - 10 : place]))
    assert last >= 8 * first
    assert sum(one["length_mean"] for one in lines[place - 11 : place - 1]) < 8 * first


@pytest.mark.parametrize("name", ["loss", "grad_norm"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_none_stops_at_once(name: str, value: float) -> None:
    found = first_stop(CollapseRecipe(window=10), [line(1), line(2, **{name: value})])
    assert found is not None
    assert found[0] == 2
    assert name in found[1]
    assert "step 2" in found[1]


def test_a_reward_may_be_missing_for_a_step_but_not_for_a_window() -> None:
    recipe = CollapseRecipe(window=3)
    some = [line(step, reward=math.nan if step % 3 else 0.5) for step in range(1, 30)]
    assert first_stop(recipe, some) is None
    none = [*some, *(line(step, reward=None) for step in range(30, 40))]
    found = first_stop(recipe, none)
    assert found is not None
    # The last reward was that of step 27.
    assert found[0] == 30
    assert "no reward over the last 3 steps" in found[1]


def test_missing_figures_that_nobody_needs_are_no_collapse() -> None:
    bare = [{"step": step, "loss": 0.1, "reward": 0.2, "grad_norm": 1.0} for step in range(1, 40)]
    assert first_stop(CollapseRecipe(window=3), bare) is None


def test_it_stops_at_the_same_step_whether_the_run_was_resumed_or_not(tmp_path) -> None:
    lines = [
        line(step, length_mean=30 * 1.05**step, reward=math.nan if step % 7 == 0 else 0.1) for step in range(1, 90)
    ]
    recipe = CollapseRecipe(window=5)
    uninterrupted = first_stop(recipe, lines)
    assert uninterrupted is not None
    place = uninterrupted[0]
    for kept in (0, 3, 5, 17, place - 1):
        path = tmp_path / f"{kept}.jsonl"
        for one in lines[:kept]:
            append_line(path, one)  # what is no number becomes null there
        watch = CollapseWatch(recipe)
        for one in read_lines(path):
            assert watch.add(one) is None
        after = [watch.add(one) for one in lines[kept:]]
        assert next(at for at, said in enumerate(after, kept + 1) if said) == place
        assert after[place - kept - 1] == uninterrupted[1]


VALUES = st.one_of(st.none(), st.floats(), st.integers(), st.text(max_size=3), st.booleans())


@given(
    lines=st.lists(st.dictionaries(st.sampled_from([*HEALTHY, "step"]), VALUES), max_size=30),
    window=st.integers(1, 5),
)
def test_no_line_is_too_odd_to_be_told(lines: list[dict[str, Any]], window: int) -> None:
    recipe = CollapseRecipe(window=window)
    for said in told(recipe, lines):
        assert said is None or (said.endswith(".") and json.dumps(said))
