"""The figures of a run from its scored answers."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from caprl_core.prism.results.accounting import ImageCounts
from caprl_core.prism.results.best_of import answered, best_of, sizes_shown
from caprl_core.prism.results.columns import benchmark_rows, codes, grid_of
from caprl_core.prism.results.intervals import Average, Interval, per_image, resample, score_intervals
from caprl_core.prism.results.run_result import (
    BenchmarkResult,
    BestOf,
    CaptionFigures,
    Estimate,
    ImageFigures,
    Lengths,
    Macro,
)
from caprl_core.prism.results.scoring import CHOICES, Scored
from caprl_core.prism.scorers.choice import ABSTAINED
from caprl_core.recipe.prism import BenchmarkRecipe, IntervalsRecipe

DIGITS = 6
"""Of shares in `results.json`: beyond them the order of additions shows."""
_NO_IMAGES = ImageCounts(0, 0, 0, {})


class Measured(NamedTuple):
    """All benchmarks, and their mean."""

    benchmarks: tuple[BenchmarkResult, ...]
    macro: Macro


class _Scores(NamedTuple):
    """Intervals by place: best of each of `sizes` captions, then the released mean and best, where there are any."""

    sizes: Sequence[int]
    intervals: Sequence[Interval]
    questions: int
    unanswered: int


def measure(
    scored: Scored,
    benchmarks: Sequence[BenchmarkRecipe],
    images: Mapping[str, ImageCounts],
    rules: IntervalsRecipe,
) -> Measured:
    """Mean and best-of-n of every benchmark with their intervals, and the macro averages; `images` by benchmark."""
    ours, theirs = Average(), Average()
    results = []
    for benchmark in benchmarks:
        answers = benchmark_rows(scored.answers, benchmark.name)
        captions = benchmark_rows(scored.captions, benchmark.name)
        scores = _scores(answers, benchmark, rules, ours, theirs)
        results.append(_result(benchmark, answers, captions, images.get(benchmark.name, _NO_IMAGES), scores))
    mean, best = _macro(ours, rules)
    released_mean, released_best = _macro(theirs, rules)
    return Measured(
        tuple(results),
        Macro(
            benchmarks=sum(result.mean is not None for result in results),
            released_benchmarks=sum(result.released_mean is not None for result in results),
            mean=mean,
            best=best,
            released_mean=released_mean,
            released_best=released_best,
        ),
    )


def estimate(interval: Interval) -> Estimate:
    """As it is stored."""
    value, low, high = (None if number is None else round(number, DIGITS) for number in interval)
    return Estimate(value=value or 0.0, low=low, high=high)


def _scores(
    answers: pa.Table, benchmark: BenchmarkRecipe, rules: IntervalsRecipe, ours: Average, theirs: Average
) -> _Scores:
    grid, image_of = grid_of(answers, "points")
    chosen = answered(grid)
    questions, unanswered = int(chosen.sum()), int((~chosen).sum())
    if not questions:
        return _Scores((), (), 0, unanswered)
    sizes = sizes_shown(grid.shape[1])
    values = [best_of(grid[chosen], size) for size in sizes]
    if benchmark.released is not None:
        released, _ = grid_of(answers, "released_points")
        values += [best_of(released[chosen], size) for size in (1, grid.shape[1])]
    found = resample(per_image(image_of[chosen], np.stack(values, axis=1)), rules, benchmark.name)
    ours.add(found.only([0, len(sizes) - 1]))
    if benchmark.released is not None:
        theirs.add(found.only([len(sizes), len(sizes) + 1]))
    return _Scores(sizes, score_intervals(found, rules.level), questions, unanswered)


def _result(
    benchmark: BenchmarkRecipe, answers: pa.Table, captions: pa.Table, images: ImageCounts, scores: _Scores
) -> BenchmarkResult:
    replied = answers.filter(pc.invert(answers.column("failed")))
    count = replied.num_rows
    sizes, found = scores.sizes, [estimate(interval) for interval in scores.intervals]
    released = found[len(sizes) :]
    return BenchmarkResult(
        name=benchmark.name,
        scorer=benchmark.scorer,
        open_scorer=benchmark.open_scorer,
        released_scoring=benchmark.released,
        images=ImageFigures(**images._asdict()),
        questions=scores.questions,
        unanswered=scores.unanswered,
        answers=count,
        failed=answers.num_rows - count,
        unparsed=_share(pc.is_null(replied.column("read"))),
        abstained=_share(_abstained(replied)),
        judge_truncated=_share(replied.column("judge_truncated")),
        captions=_captions(captions),
        mean=found[0] if sizes else None,
        best=found[len(sizes) - 1] if sizes else None,
        best_of=tuple(BestOf(captions=size, score=score) for size, score in zip(sizes, found, strict=False)),
        released_mean=released[0] if released else None,
        released_best=released[1] if released else None,
    )


def _macro(parts: Average, rules: IntervalsRecipe) -> tuple[Estimate | None, Estimate | None]:
    joint = parts.result()
    if joint is None:
        return None, None
    mean, best = score_intervals(joint, rules.level)
    return estimate(mean), estimate(best)


def _captions(captions: pa.Table) -> CaptionFigures:
    _, counts = np.unique(codes(captions.column("image")), return_counts=True)
    return CaptionFigures(
        count=captions.num_rows,
        least=int(counts.min(initial=captions.num_rows)),
        most=int(counts.max(initial=0)),
        tokens=_lengths(captions.column("tokens")),
        characters=_lengths(captions.column("characters")),
        truncated=_share(captions.column("truncated")),
    )


def _lengths(lengths: pa.ChunkedArray) -> Lengths:
    known: Any = lengths.drop_null().to_numpy()
    if not len(known):
        return Lengths(mean=None, median=None)
    return Lengths(mean=round(float(known.mean()), 2), median=float(np.median(known)))


def _abstained(replied: pa.Table) -> pa.ChunkedArray:
    """Of the answers that were read as a letter or as abstaining."""
    letters = pc.is_in(pc.cast(replied.column("scorer"), pa.string()), value_set=pa.array(sorted(CHOICES)))
    return pc.fill_null(pc.equal(replied.filter(letters).column("read"), ABSTAINED), False)


def _share(flags: pa.ChunkedArray) -> float | None:
    """Of those that are known; None where none is."""
    mean = pc.mean(pc.cast(flags, pa.float64())).as_py()
    return None if mean is None else round(mean, DIGITS)
