"""The flat columns of scored answers as arrays of a benchmark."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from caprl_core.prism.results.best_of import Floats, answer_grid


def benchmark_rows(table: pa.Table, name: str) -> pa.Table:
    """The rows of one benchmark, in order."""
    return table.filter(pc.equal(pc.cast(table.column("benchmark"), pa.string()), name))


def texts(column: pa.ChunkedArray) -> list[str]:
    """A dictionary column as plain texts."""
    found: list[str] = pc.cast(column, pa.string()).to_pylist()
    return found


def codes(column: pa.ChunkedArray) -> npt.NDArray[Any]:
    """Whole numbers that tell the texts of a dictionary column apart."""
    if not len(column):
        return np.zeros(0, np.int32)
    return np.asarray(column.unify_dictionaries().combine_chunks().indices)


def grid_of(answers: pa.Table, points: str) -> tuple[Floats, npt.NDArray[Any]]:
    """Column `points` of one benchmark's answers as [questions, captions], and the image of each question as a code.

    Questions are in the order of their first answer.
    """
    found, first, places = np.unique(codes(answers.column("question")), return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty(len(found), np.int64)
    rank[order] = np.arange(len(found))
    values = answers.column(points).to_numpy().astype(np.float64)  # null becomes NaN
    grid = answer_grid(rank[places], answers.column("caption").to_numpy(), values)
    return grid, codes(answers.column("image"))[first[order]]
