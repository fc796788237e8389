"""Intervals hold the truth as often as they say: with several questions an image, sparse differences, high scores."""

import math
from collections.abc import Callable

import numpy as np
import pytest

from caprl_core.prism.results.intervals import (
    Average,
    Floats,
    Interval,
    PerImage,
    difference_intervals,
    per_image,
    resample,
    score_intervals,
    student_quantile,
)
from caprl_core.recipe.prism import IntervalsRecipe

SIMULATIONS = 1000
RULES = IntervalsRecipe(draws=500)


# Answers with a known truth


def asked(rng: np.random.Generator, images: int, most: int) -> Floats:
    """The image of each question: 1 to `most` questions an image."""
    return np.repeat(np.arange(images), rng.integers(1, most + 1, size=images))


def paired_questions(rng: np.random.Generator, images: int, gained: float, lost: float) -> tuple[Floats, Floats]:
    """Differences of one caption's answers, 1 to 4 questions an image: half the images do not change at all, and of the
    others' answers twice `gained` and twice `lost` do. Right and wrong are even: the truth is (gained - lost) / 2."""
    of = asked(rng, images, 4)
    right = rng.random(len(of)) < rng.beta(1, 1, size=images)[of]
    touched = rng.random(images)[of] < 0.5
    won = touched & ~right & (rng.random(len(of)) < 2 * gained)
    gone = touched & right & (rng.random(len(of)) < 2 * lost)
    return of, won.astype(float) - gone.astype(float)


def paired_captions(rng: np.random.Generator, images: int, gain: float) -> tuple[Floats, Floats]:
    """Differences of the means of four captions each; images are as hard for both. The truth is `gain`."""
    of = asked(rng, images, 4)
    ease = (1 - gain) * rng.beta(1, 1, size=images)[of]
    return of, (rng.binomial(4, ease + gain) - rng.binomial(4, ease)) / 4


def one_run(rng: np.random.Generator, images: int, mean: float, alike: float) -> tuple[Floats, Floats]:
    """Means of four captions; `alike` small: an image's answers are nearly all right or all wrong."""
    of = asked(rng, images, 4)
    ease = rng.beta(mean * alike, (1 - mean) * alike, size=images)[of]
    return of, rng.binomial(4, ease) / 4


def covered(
    make: Callable[[np.random.Generator], tuple[Floats, Floats]],
    truth: float,
    interval: Callable[[PerImage, str], Interval],
    together: Callable[[Floats], Floats] = lambda images: images,
) -> float:
    """Per cent of the simulations whose interval holds the truth."""
    held = 0
    for number in range(SIMULATIONS):
        images, values = make(np.random.default_rng([7, number]))
        found = interval(per_image(together(images), values[:, None]), str(number))
        assert found.low is not None and found.high is not None
        held += found.low <= truth <= found.high
    return 100 * held / SIMULATIONS


def of_difference(cells: PerImage, stream: str) -> Interval:
    return difference_intervals(resample(cells, RULES, stream), RULES.level)[0]


def of_score(cells: PerImage, stream: str) -> Interval:
    return score_intervals(resample(cells, RULES, stream), RULES.level)[0]


# How often the truth is inside


@pytest.mark.parametrize("images", [60, 200])
def test_a_paired_difference_is_covered_at_its_nominal_rate(images: int) -> None:
    assert covered(lambda rng: paired_captions(rng, images, 0.05), 0.05, of_difference) == pytest.approx(95, abs=2)


@pytest.mark.parametrize(("images", "gained", "lost"), [(60, 0.3, 0.1), (150, 0.1, 0.05)])
def test_a_paired_difference_of_mostly_tied_questions_is_covered_too(images: int, gained: float, lost: float) -> None:
    truth = (gained - lost) / 2
    found = covered(lambda rng: paired_questions(rng, images, gained, lost), truth, of_difference)
    assert found == pytest.approx(95, abs=2)


@pytest.mark.parametrize(("mean", "alike"), [(0.5, 2.0), (0.1, 3.0), (0.95, 4.0)])
def test_a_score_is_covered_at_its_nominal_rate_even_near_its_ends(mean: float, alike: float) -> None:
    assert covered(lambda rng: one_run(rng, 60, mean, alike), mean, of_score) == pytest.approx(95, abs=2)


def test_questions_drawn_one_by_one_would_cover_far_less() -> None:
    """What drawing whole images is for: the same answers, every question taken for an image of its own."""
    found = covered(lambda rng: one_run(rng, 60, 0.5, 0.5), 0.5, of_score, lambda images: np.arange(len(images)))
    assert found < 85


def test_the_macro_difference_of_unequal_benchmarks_is_covered() -> None:
    held = 0
    for number in range(SIMULATIONS):
        rng = np.random.default_rng([11, number])
        average = Average()
        for place, (images, gain) in enumerate([(60, 0.10), (90, 0.0), (150, -0.04)]):
            of, values = (
                paired_captions(rng, images, max(gain, 0)) if gain >= 0 else paired_captions(rng, images, -gain)
            )
            sign = 1 if gain >= 0 else -1
            average.add(resample(per_image(of, sign * values[:, None]), RULES, f"{number}/{place}"))
        joint = average.result()
        assert joint is not None
        found = difference_intervals(joint, RULES.level)[0]
        assert found.low is not None and found.high is not None
        held += found.low <= 0.02 <= found.high
    assert 100 * held / SIMULATIONS == pytest.approx(95, abs=2)


# What an interval is


def test_the_value_is_the_mean_over_questions_and_lies_inside() -> None:
    images, values = one_run(np.random.default_rng(3), 80, 0.7, 2.0)
    found = of_score(per_image(images, values[:, None]), "x")
    assert found.value == pytest.approx(values.mean())
    assert found.low is not None and found.high is not None and 0 <= found.low < found.value < found.high <= 1


def test_the_same_seed_gives_the_same_interval_and_another_one_another() -> None:
    images, values = one_run(np.random.default_rng(3), 80, 0.7, 2.0)
    cells = per_image(images, values[:, None])
    assert of_score(cells, "x") == of_score(cells, "x")
    assert of_score(cells, "x") != of_score(cells, "y")
    other = score_intervals(resample(cells, IntervalsRecipe(draws=1000, seed=1), "x"), 0.95)[0]
    assert of_score(cells, "x") != other


def test_many_images_are_worked_on_in_pieces_that_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    images, values = one_run(np.random.default_rng(3), 50, 0.7, 2.0)
    cells = per_image(images, values[:, None])
    whole = of_score(cells, "x")
    monkeypatch.setattr("caprl_core.prism.results.intervals.CELLS", 50 * 7)
    assert of_score(cells, "x") == pytest.approx(whole)


def test_statistics_of_one_call_come_from_the_same_draws() -> None:
    images, values = one_run(np.random.default_rng(3), 50, 0.7, 2.0)
    both = score_intervals(resample(per_image(images, np.stack([values, values], axis=1)), RULES, "x"), 0.95)
    assert both[0] == both[1]


def test_a_wider_level_holds_the_narrower_one() -> None:
    images, values = one_run(np.random.default_rng(3), 80, 0.7, 2.0)
    drawn = resample(per_image(images, values[:, None]), RULES, "x")
    for intervals in (score_intervals, difference_intervals):
        narrow, wide = intervals(drawn, 0.8)[0], intervals(drawn, 0.99)[0]
        assert wide.low < narrow.low < narrow.high < wide.high  # type: ignore[operator]


def test_few_images_widen_the_interval_of_a_difference_as_students_t_does() -> None:
    values = np.random.default_rng(5).normal(0, 0.1, size=10)
    drawn = resample(per_image(np.arange(10), values[:, None]), IntervalsRecipe(draws=20_000), "x")
    found = difference_intervals(drawn, 0.95)[0]
    low, high = np.quantile(drawn.draws[:, 0], [0.025, 0.975])
    assert found.low is not None and found.high is not None
    # t of 9 degrees of freedom is 2.262, the normal quantile 1.960.
    assert (found.high - found.low) / (high - low) == pytest.approx(2.262 / 1.960 * (10 / 9) ** 0.5, rel=0.03)


def test_one_image_has_no_interval() -> None:
    cells = per_image(np.zeros(5, int), np.asarray([[1.0], [0.0], [1.0], [1.0], [0.0]]))
    assert of_score(cells, "x") == (0.6, None, None)
    assert of_difference(cells, "x") == (0.6, None, None)


@pytest.mark.parametrize("images", [10, 100])
def test_where_all_images_agree_the_bound_is_that_of_clopper_and_pearson(images: int) -> None:
    cells = per_image(np.arange(images), np.ones((images, 1)))
    assert of_score(cells, "x") == (1.0, pytest.approx(0.025 ** (1 / images)), 1.0)
    none = per_image(np.arange(images), np.zeros((images, 1)))
    low, high = of_difference(none, "x")[1:]
    assert (low, high) == (pytest.approx(0.025 ** (1 / images) - 1), pytest.approx(1 - 0.025 ** (1 / images)))


@pytest.mark.parametrize("right", [1, 2, 59])
def test_a_score_near_its_end_stays_inside_and_has_two_sides(right: int) -> None:
    values = (np.arange(60) < right).astype(float)
    found = of_score(per_image(np.arange(60), values[:, None]), "x")
    assert found.low is not None and found.high is not None
    assert 0 <= found.low < found.value < found.high <= 1 and found.high - found.low < 0.2


def test_the_macro_average_is_the_plain_mean_and_narrower_than_its_parts() -> None:
    average = Average()
    parts = []
    for place in range(4):
        images, values = one_run(np.random.default_rng(place), 60, 0.6, 2.0)
        part = resample(per_image(images, values[:, None]), RULES, str(place))
        average.add(part)
        parts.append(score_intervals(part, 0.95)[0])
    joint = average.result()
    assert joint is not None and joint.images == (60,) * 4
    found = score_intervals(joint, 0.95)[0]
    assert found.value == pytest.approx(np.mean([part.value for part in parts]))
    widths = [part.high - part.low for part in parts]  # type: ignore[operator]
    assert found.high - found.low == pytest.approx(np.mean(widths) / 2, rel=0.15)  # type: ignore[operator]


def test_no_benchmark_has_no_average() -> None:
    assert Average().result() is None


def test_images_may_be_named_by_any_numbers() -> None:
    values = np.asarray([[1.0], [0.0], [0.5]])
    assert [part.tolist() for part in per_image(np.asarray([70, 3, 70]), values)] == [[[0.0], [1.5]], [1.0, 2.0]]


@pytest.mark.parametrize(
    ("probability", "freedom", "table"),
    # Abramowitz and Stegun, table 26.10
    [(0.975, 5, 2.571), (0.975, 10, 2.228), (0.975, 30, 2.042), (0.95, 60, 1.671), (0.025, 20, -2.086)],
)
def test_quantiles_of_students_t_are_those_of_the_tables(probability: float, freedom: float, table: float) -> None:
    assert student_quantile(probability, freedom) == pytest.approx(table, abs=0.004)
    assert math.isclose(student_quantile(probability, 1e9), student_quantile(probability, 1e12), abs_tol=1e-6)
