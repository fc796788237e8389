"""Intervals hold the true share as often as they promise; the blind guesser's chance is what counting gives."""

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caprl_core.qa.evidence import blind_pass_chance, interval, is_above, is_below

COUNTS = st.integers(1, 64).flatmap(lambda trials: st.tuples(st.integers(0, trials), st.just(trials)))
LEVELS = st.sampled_from([0.6, 0.8, 0.9, 0.95, 0.99])


@pytest.mark.parametrize(
    ("successes", "trials", "level", "low", "high"),
    [
        # All or nothing: the other end is the n-th root of half of what may lie outside.
        (4, 4, 0.9, 0.05**0.25, 1.0),
        (0, 4, 0.9, 0.0, 1 - 0.05**0.25),
        (1, 1, 0.95, 0.025, 1.0),
        # Printed tables of the 95 % interval.
        (1, 10, 0.95, 0.0025, 0.4450),
        (5, 10, 0.95, 0.1871, 0.8129),
        (3, 4, 0.95, 0.1941, 0.9937),
        (2, 20, 0.95, 0.0123, 0.3170),
    ],
)
def test_known_intervals(successes: int, trials: int, level: float, low: float, high: float) -> None:
    assert interval(successes, trials, level) == pytest.approx((low, high), abs=6e-5)


def test_four_of_four_proves_little_and_eleven_of_eleven_clear_three_quarters() -> None:
    assert interval(4, 4, 0.9)[0] < 0.5
    assert interval(10, 10, 0.9)[0] < 0.75 < interval(11, 11, 0.9)[0]


def test_no_trials_tell_nothing() -> None:
    assert interval(0, 0, 0.9) == (0.0, 1.0)


@given(COUNTS, LEVELS)
def test_an_interval_holds_the_measured_share(counts: tuple[int, int], level: float) -> None:
    successes, trials = counts
    low, high = interval(successes, trials, level)
    assert 0 <= low <= successes / trials <= high <= 1


@given(COUNTS, LEVELS)
def test_the_ends_are_where_the_tails_have_the_promised_weight(counts: tuple[int, int], level: float) -> None:
    successes, trials = counts
    low, high = interval(successes, trials, level)

    def weight(first: int, last: int, share: float) -> float:
        return math.fsum(math.comb(trials, k) * share**k * (1 - share) ** (trials - k) for k in range(first, last + 1))

    if successes > 0:
        assert weight(successes, trials, low) == pytest.approx((1 - level) / 2, rel=1e-6)
    if successes < trials:
        assert weight(0, successes, high) == pytest.approx((1 - level) / 2, rel=1e-6)


@given(COUNTS, LEVELS)
def test_more_successes_more_trials_and_a_lower_level_move_the_ends_the_right_way(
    counts: tuple[int, int], level: float
) -> None:
    successes, trials = counts
    low, high = interval(successes, trials, level)
    if successes < trials:
        above = interval(successes + 1, trials, level)
        assert above[0] > low and above[1] >= high
    assert interval(successes, trials, 0.55)[0] >= low and interval(successes, trials, 0.55)[1] <= high
    if 2 * trials <= 64:
        narrower = interval(2 * successes, 2 * trials, level)
        assert narrower[1] - narrower[0] < high - low


@given(COUNTS, LEVELS)
def test_failures_mirror_successes(counts: tuple[int, int], level: float) -> None:
    successes, trials = counts
    low, high = interval(successes, trials, level)
    assert interval(trials - successes, trials, level) == pytest.approx((1 - high, 1 - low), abs=1e-12)


@pytest.mark.parametrize(("trials", "level"), list(itertools.product((1, 4, 8, 24), (0.8, 0.9, 0.95))))
def test_the_true_share_is_inside_at_least_as_often_as_promised(trials: int, level: float) -> None:
    intervals = [interval(k, trials, level) for k in range(trials + 1)]
    for share in (step / 200 for step in range(201)):
        covered = math.fsum(
            math.comb(trials, k) * share**k * (1 - share) ** (trials - k)
            for k, (low, high) in enumerate(intervals)
            if low <= share <= high
        )
        assert covered >= level - 1e-9, share


@pytest.mark.parametrize("counts", [(-1, 4), (5, 4), (0, 1001)])
def test_impossible_counts_are_refused(counts: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="no interval"):
        interval(*counts, 0.9)


@pytest.mark.parametrize(
    ("trials", "letters", "below", "inclusive", "chance"),
    [
        (4, 4, 0.25, False, 0.75**4),  # 0.316: the released recipe
        (4, 4, 0.25, True, 0.75**4 + 4 * 0.25 * 0.75**3),
        (4, 5, 0.25, False, 0.8**4),  # with "cannot answer" among the letters
        (8, 4, 0.25, False, 0.75**8 + 8 * 0.25 * 0.75**7),
        (1, 2, 0.25, False, 0.5),
        (4, 4, 0.0, False, 0.0),
        (4, 4, 1.0, True, 1.0),
        (0, 4, 0.25, False, 0.0),
    ],
)
def test_the_chance_of_a_blind_guesser(trials: int, letters: int, below: float, inclusive: bool, chance: float) -> None:
    assert blind_pass_chance(trials, letters, below, inclusive) == pytest.approx(chance)


@pytest.mark.parametrize("inclusive", [False, True])
def test_the_chance_is_what_counting_all_guesses_gives(inclusive: bool) -> None:
    guesses = list(itertools.product(range(3), repeat=5))
    passing = [guess for guess in guesses if is_below(guess.count(0) / 5, 0.4, inclusive)]
    assert blind_pass_chance(5, 3, 0.4, inclusive) == pytest.approx(len(passing) / len(guesses))


def test_equality_passes_only_where_it_is_allowed() -> None:
    assert not is_above(0.75, 0.75, False) and is_above(0.75, 0.75, True) and is_above(1.0, 0.75, False)
    assert not is_below(0.25, 0.25, False) and is_below(0.25, 0.25, True) and is_below(0.0, 0.25, False)
