"""Which answers the page shows: drawn by a seed, over all benchmarks and outcomes."""

from collections.abc import Sequence
from typing import Final, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from caprl_core.prism.results.columns import benchmark_rows, texts
from caprl_core.prism.results.scoring import CHOICES
from caprl_core.prism.scorers.choice import ABSTAINED

EXAMPLES: Final = 24
"""Of a page with up to eight benchmarks; more benchmarks have three each, up to `MOST`."""
MOST: Final = 48

Outcome = Literal["right", "partly", "wrong", "abstained", "unparsed"]
OUTCOMES: Final[tuple[Outcome, ...]] = ("right", "wrong", "unparsed", "partly", "abstained")
"""In the order they are taken in turn; answers without points, whose requests failed, are none of them."""


class ChosenAnswer(NamedTuple):
    """One answer: of a question (by id) of an image (by key) about a caption (0-based)."""

    benchmark: str
    image: str
    question: str
    caption: int
    outcome: Outcome
    points: float
    released_points: float | None
    scorer: str
    read: str | None


def choose_answers(
    answers: pa.Table, benchmarks: Sequence[str], *, count: int | None = None, seed: int = 0
) -> list[ChosenAnswer]:
    """About as many of each benchmark and outcome as there are; no image comes twice while others are left.

    In the order of `benchmarks`, then of `OUTCOMES`. The choice depends on the seed and on the answers alone.
    """
    if count is None:
        count = min(MOST, max(EXAMPLES, 3 * len(benchmarks)))
    pools: dict[tuple[str, Outcome], list[ChosenAnswer]] = {}
    for name in benchmarks:
        pools |= _pools(name, benchmark_rows(answers, name), count, seed)
    chosen: list[ChosenAnswer] = []
    used: set[str] = set()
    # Outcome by outcome over the benchmarks, so that few examples are spread over the benchmarks first.
    turns = [pools[name, outcome] for outcome in OUTCOMES for name in benchmarks if pools.get((name, outcome))]
    while len(chosen) < count and any(turns):
        for pool in turns:
            if pool and len(chosen) < count:
                place = next((at for at, one in enumerate(pool) if one.image not in used), 0)
                one = pool.pop(place)
                used.add(one.image)
                chosen.append(one)
    return sorted(chosen, key=lambda one: (benchmarks.index(one.benchmark), OUTCOMES.index(one.outcome)))


def _pools(name: str, rows: pa.Table, count: int, seed: int) -> dict[tuple[str, Outcome], list[ChosenAnswer]]:
    """(benchmark, outcome) -> some answers of it, shuffled."""
    points = rows.column("points").to_numpy()
    unread = pc.is_null(rows.column("read")).to_numpy()
    letters = np.isin(texts(rows.column("scorer")), sorted(CHOICES))
    abstained = letters & (np.asarray(rows.column("read").to_pylist(), object) == ABSTAINED)
    said = ~unread & ~abstained
    kinds: dict[Outcome, npt.NDArray[np.bool_]] = {
        "right": (points >= 1) & said,
        "partly": (points > 0) & (points < 1) & said,
        "wrong": (points <= 0) & said,
        "abstained": abstained,
        "unparsed": ~np.isnan(points) & unread,
    }
    rng = np.random.default_rng([seed, len(points)])
    found = {}
    for outcome, chosen in kinds.items():
        # Twice as many as are wanted, so that images can differ.
        places = rng.permutation(np.flatnonzero(chosen))[: 2 * count]
        some = rows.take(places)
        columns = [texts(some.column(column)) for column in ("image", "question", "scorer")]
        values = [some.column(column).to_pylist() for column in ("caption", "points", "released_points", "read")]
        found[name, outcome] = [
            ChosenAnswer(name, image, question, caption, outcome, earned, released, scorer, read)
            for image, question, scorer, caption, earned, released, read in zip(*columns, *values, strict=True)
        ]
    return found
