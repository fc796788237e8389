"""Points of answers as a grid of questions by captions, and what the best of n captions earns."""

from math import comb
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def answer_grid(questions: npt.NDArray[Any], captions: npt.NDArray[Any], points: Floats) -> Floats:
    """Flat answers as [questions, captions]; NaN where there is none or its request failed.

    `questions` and `captions` are the positions (0-based) of each answer in the grid, `points` its points.
    """
    shape = (int(questions.max()) + 1, int(captions.max()) + 1) if len(questions) else (0, 0)
    grid = np.full(shape, np.nan)
    grid[questions, captions] = points
    return grid


def answered(grid: Floats) -> npt.NDArray[np.bool_]:
    """[questions]: True where at least one answer has points."""
    return np.asarray(~np.isnan(grid).all(axis=1))


def best_of(grid: Floats, n: int) -> Floats:
    """[questions]: the expected most points of `n` captions drawn without replacement from those there are.

    With n = 1 it is the mean of a question's answers, with n of all captions the released script's best of them. A
    question with fewer answers than `n` gives the best of those; NaN where it has none.
    """
    ascending = np.sort(grid, axis=1)  # NaN last
    counts = (~np.isnan(grid)).sum(axis=1)
    found = np.full(len(grid), np.nan)
    for count in np.unique(counts[counts > 0]).tolist():
        size = min(n, count)
        # The answer of rank j (1-based) is the best of a draw in comb(j - 1, size - 1) of the comb(count, size) draws.
        weights = [comb(rank, size - 1) / comb(count, size) for rank in range(count)]
        chosen = counts == count
        found[chosen] = ascending[chosen, :count] @ np.asarray(weights)
    return found


def sizes_shown(captions: int) -> list[int]:
    """The n whose best is reported: 1, 2, 4, … and all."""
    return sorted({captions, *(2**power for power in range(captions.bit_length()) if 2**power < captions)})
