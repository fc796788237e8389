"""The best of n captions: the mean for one, the released script's best for all, and the exact expectation between."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caprl_core.prism.results.best_of import answer_grid, answered, best_of, sizes_shown

POINTS = st.one_of(st.none(), st.floats(0, 1))
NAN = np.nan


def grid_from(rows: list[list[float | None]]) -> np.ndarray:
    return np.asarray([[NAN if one is None else one for one in row] for row in rows])


@given(st.lists(st.lists(POINTS, min_size=4, max_size=4), min_size=1, max_size=8), st.integers(1, 4))
def test_it_is_the_mean_of_the_best_over_all_draws(rows: list[list[float | None]], n: int) -> None:
    found = best_of(grid_from(rows), n)
    for row, best in zip(rows, found, strict=True):
        known = [one for one in row if one is not None]
        draws = list(combinations(known, min(n, len(known)))) if known else []
        if draws:
            assert best == pytest.approx(np.mean([max(draw) for draw in draws]))
        else:
            assert np.isnan(best)


def test_one_caption_is_the_mean_and_all_are_the_best() -> None:
    grid = grid_from([[0.0, 1.0, 0.5, 0.5], [0.0, 0.0, 0.0, 1.0]])
    assert best_of(grid, 1).tolist() == pytest.approx([0.5, 0.25])
    assert best_of(grid, 4).tolist() == pytest.approx([1.0, 1.0])
    assert best_of(grid, 2).tolist() == pytest.approx([4.5 / 6, 0.5])


def test_a_failed_request_is_no_zero() -> None:
    grid = grid_from([[1.0, None, None, None], [None, None, None, None]])
    assert best_of(grid, 1)[0] == best_of(grid, 4)[0] == 1.0
    assert answered(grid).tolist() == [True, False]


def test_answers_find_their_place_whatever_their_order() -> None:
    grid = answer_grid(np.asarray([1, 0, 1]), np.asarray([0, 1, 1]), np.asarray([0.25, 0.5, NAN]))
    assert np.array_equal(grid, [[NAN, 0.5], [0.25, NAN]], equal_nan=True)


@pytest.mark.parametrize(
    ("captions", "sizes"), [(1, [1]), (2, [1, 2]), (4, [1, 2, 4]), (6, [1, 2, 4, 6]), (64, [1, 2, 4, 8, 16, 32, 64])]
)
def test_the_sizes_shown_are_powers_of_two_and_all(captions: int, sizes: list[int]) -> None:
    assert sizes_shown(captions) == sizes
