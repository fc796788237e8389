"""The sections of the page that are charts beside tables: scores, best of n, captions and judging."""

from collections.abc import Sequence
from typing import Final

from caprl_core.prism.results.run_result import BenchmarkResult, Estimate, RunResult
from caprl_core.prism.results.tables import MACRO, length, length_text, percent, points, scored
from caprl_core.report.charts import MOST_BARS, number
from caprl_core.report.interval_chart import Measure, MeasuredBar, interval_chart
from caprl_core.report.markup import Html, clipped, escaped, isolated
from caprl_core.report.page import Column, beside, named, paragraph, table, table_of

_NAME: Final = 60
_SCORERS: Final[dict[str, str]] = {
    "choice": "multiple choice",
    "choice_or_abstain": "multiple choice, or abstaining",
    "relaxed": "relaxed accuracy",
    "anls": "ANLS",
    "math": "mathematical equivalence",
    "match": "normalised match",
    "exact": "exact match",
}


def score_parts(result: RunResult) -> list[Html]:
    """Bars of every benchmark, ours and as released, with the table."""
    released = any(one.released_mean is not None for one in result.benchmarks)
    level = f"{100 * result.intervals.level:g} %"
    shown = result.benchmarks[: MOST_BARS - 1]
    bars = [
        MeasuredBar(clipped(one.name, _NAME), _values(one.mean, one.released_mean, released=released)) for one in shown
    ]
    macro = result.macro
    bars.append(MeasuredBar(MACRO, _values(macro.mean, macro.released_mean, released=released)))
    names = ["our scorers", "as the released script scores"] if released else ["our scorers"]
    head = [Column("Benchmark"), Column("Images", True), Column("Questions", True), Column("Mean", True)]
    head += [Column("Best of all", True)]
    head += [Column("Released mean", True), Column("Released best", True)] if released else []
    head += [Column("Caption length", True), Column("Captions cut", True)]
    rows = [_row(one, released=released) for one in result.benchmarks]
    total = [
        named(MACRO, f"plain mean of {macro.benchmarks}{_of_released(result)}"),
        escaped(number(sum(one.images.judged for one in result.benchmarks))),
        escaped(number(sum(one.questions for one in result.benchmarks))),
        escaped(scored(macro.mean)),
        escaped(scored(macro.best)),
    ]
    total += [escaped(points(macro.released_mean)), escaped(points(macro.released_best))] if released else []
    total += [escaped(""), escaped("")]
    caption = (
        f"Mean points of a question, per cent. Lines with ends: {level} intervals, from drawing images again with all"
        " their questions and captions."
    )
    title = "Scores by benchmark"
    return [
        beside(
            interval_chart(title, names, bars),
            caption,
            table_of(f"Scores, per cent, with {level} intervals", head, [*rows, total], [len(rows)]),
            wide=True,
        )
    ]


def best_of_parts(result: RunResult) -> list[Html]:
    """How much the best of several captions earns: what is there to be gained by choosing among them."""
    sizes = sorted({one.captions for benchmark in result.benchmarks for one in benchmark.best_of})
    if sizes in ([], [1]):
        return [paragraph("There is one caption of each image, so none can be chosen.")]
    columns = [Column("Benchmark"), *(Column("One caption" if n == 1 else f"Best of {n}", True) for n in sizes)]
    rows = []
    for benchmark in result.benchmarks:
        found = {one.captions: one.score for one in benchmark.best_of}
        rows.append([clipped(benchmark.name, _NAME), *(scored(found.get(size)) for size in sizes)])
    note = (
        "What a question earns on average if the best of so many captions counted, over all ways of drawing them from"
        " those of its image. The mean is what one caption is worth; the distance to the best is luck that choosing"
        " well could keep."
    )
    return [paragraph(note), table("Best of n captions, per cent", columns, rows)]


def caption_parts(result: RunResult) -> list[Html]:
    """Lengths, truncation, unread answers, failed requests, images lost."""
    columns = (
        Column("Benchmark"),
        Column("Captions of an image", True),
        Column("Length, mean / median", True),
        Column("No answer found", True),
        Column("Abstained", True),
        Column("Judge cut", True),
        Column("Requests failed", True),
        Column("Images rejected", True),
        Column("Images pending", True),
    )
    rows = [_behind(one) for one in result.benchmarks]
    note = (
        "A longer caption tells more, so compare scores of captions of like length. An answer that could not be found"
        " in the judge's reply earns nothing and is counted here, apart from those in which the judge chose to abstain."
        " Judge cut: replies that ended at the limit of tokens. A request that failed is neither right nor wrong and is"
        " left out of every figure."
    )
    return [paragraph(note), table_of("Captions and judging", columns, rows), *_rejected(result)]


def _rejected(result: RunResult) -> list[Html]:
    lost = [
        (clipped(one.name, _NAME), stage, clipped(reason.replace("_", " "), _NAME), number(count))
        for one in result.benchmarks
        for stage, reasons in one.images.rejected.items()
        for reason, count in reasons.items()
    ]
    if not lost:
        return [paragraph("No image was rejected.", quiet=True)]
    columns = (Column("Benchmark"), Column("Stage"), Column("Reason"), Column("Images", True))
    return [table("Images without a score, and why", columns, lost)]


def _behind(one: BenchmarkResult) -> list[Html]:
    captions = one.captions
    each = str(captions.most) if captions.least == captions.most else f"{captions.least} to {captions.most}"
    rejected = sum(sum(reasons.values()) for reasons in one.images.rejected.values())
    figures = (
        each,
        length_text(captions.tokens, captions.characters),
        percent(one.unparsed),
        percent(one.abstained),
        percent(one.judge_truncated),
        number(one.failed),
        number(rejected),
        number(one.images.pending),
    )
    return [isolated(clipped(one.name, _NAME)), *map(escaped, figures)]


def _row(one: BenchmarkResult, *, released: bool) -> list[Html]:
    figures = [number(one.images.judged), number(one.questions), scored(one.mean), scored(one.best)]
    figures += [points(one.released_mean), points(one.released_best)] if released else []
    figures += [length(one.captions), percent(one.captions.truncated)]
    words = _SCORERS.get(one.scorer, one.scorer)
    if one.open_scorer is not None and one.open_scorer != one.scorer:
        words = f"{words}; open questions: {_SCORERS.get(one.open_scorer, one.open_scorer)}"
    if released and one.released_scoring is not None:
        words = f"{words}; released: {one.released_scoring}"
    return [named(clipped(one.name, _NAME), words), *map(escaped, figures)]


def _values(ours: Estimate | None, theirs: Estimate | None, *, released: bool) -> tuple[Measure | None, ...]:
    found: Sequence[Estimate | None] = (ours, theirs) if released else (ours,)
    return tuple(None if one is None else Measure(one.value, one.low, one.high) for one in found)


def _of_released(result: RunResult) -> str:
    macro = result.macro
    if macro.released_benchmarks in (0, macro.benchmarks):
        return " benchmarks"
    return f" benchmarks; released: of {macro.released_benchmarks}"
