"""The tables of one run and of several side by side."""

from collections.abc import Sequence

from caprl_core.prism.results.run_result import BenchmarkResult, CaptionFigures, Estimate, Lengths, RunResult
from caprl_core.prism.results.typeset import TextTable
from caprl_core.report.charts import NOTHING, share

MACRO = "macro average"


def run_tables(result: RunResult) -> list[TextTable]:
    """Scores, and what stands behind them, of one run."""
    level = f"{100 * result.intervals.level:g} %"
    scores = [
        [
            one.name,
            one.scorer if one.open_scorer in (None, one.scorer) else f"{one.scorer} / {one.open_scorer}",
            f"{one.questions:,}",
            scored(one.mean),
            scored(one.best),
            points(one.released_mean),
            points(one.released_best),
            length(one.captions),
            percent(one.captions.truncated),
        ]
        for one in result.benchmarks
    ]
    macro = result.macro
    total = [
        _macro_name(macro.benchmarks, macro.released_benchmarks),
        "",
        f"{sum(one.questions for one in result.benchmarks):,}",
        scored(macro.mean),
        scored(macro.best),
        points(macro.released_mean),
        points(macro.released_best),
        "",
        "",
    ]
    behind = [
        [
            one.name,
            f"{one.images.judged:,}",
            _range(one),
            length_text(one.captions.tokens, one.captions.characters),
            percent(one.unparsed),
            percent(one.abstained),
            percent(one.judge_truncated),
            f"{one.failed:,}",
            f"{sum(sum(reasons.values()) for reasons in one.images.rejected.values()):,}",
            f"{one.images.pending:,}",
        ]
        for one in result.benchmarks
    ]
    unfinished = " (unfinished)" if result.partial else ""
    return [
        TextTable(
            f"Prism scores of {result.captions.name}, per cent, with {level} intervals{unfinished}",
            ["benchmark", "scorer", "questions", "mean", "best of all", "released mean", "released best",
             "caption length", "captions cut"],
            [*scores, total],
            summary=1,
        ),
        TextTable(
            f"Behind the scores of {result.captions.name}",
            ["benchmark", "images", "captions", "length, mean / median", "unparsed", "abstained", "judge cut", "failed",
             "rejected", "pending"],
            behind,
        ),
    ]  # fmt: skip


def side_by_side(results: Sequence[RunResult]) -> list[TextTable]:
    """Means, bests and lengths of several runs (1 or more), a column a run; benchmarks in the order they appear."""
    names = list(dict.fromkeys(one.name for result in results for one in result.benchmarks))
    headings = ["benchmark", *(result.captions.name for result in results)]
    tables = []
    for title, ours in (("Mean", "mean"), ("Best of all captions", "best")):
        rows = []
        for name in names:
            found = [next((one for one in result.benchmarks if one.name == name), None) for result in results]
            rows.append([name, *(scored(None if one is None else getattr(one, ours)) for one in found)])
        total = [MACRO, *(scored(getattr(result.macro, ours)) for result in results)]
        level = " and ".join(dict.fromkeys(f"{100 * result.intervals.level:g} %" for result in results))
        caption = f"{title}, per cent, with {level} intervals"
        tables.append(TextTable(caption, headings, [*rows, total], summary=1))
    rows = []
    for name in names:
        captions = [next((one.captions for one in result.benchmarks if one.name == name), None) for result in results]
        rows.append(
            [name, *(NOTHING if one is None else f"{length(one)}, {percent(one.truncated)}" for one in captions)]
        )
    tables.append(TextTable("Mean length of captions, and the share cut at the limit", headings, rows))
    return tables


def scored(estimate: Estimate | None) -> str:
    """48.3 (45.1 to 51.2)."""
    if estimate is None:
        return NOTHING
    if estimate.low is None or estimate.high is None:
        return points(estimate)
    return f"{points(estimate)} ({100 * estimate.low:.1f} to {100 * estimate.high:.1f})"


def points(estimate: Estimate | None) -> str:
    """48.3: per cent with one decimal, as the paper writes scores."""
    return NOTHING if estimate is None else f"{100 * estimate.value:.1f}"


def percent(part: float | None) -> str:
    """A share, or a dash where it is not known."""
    return NOTHING if part is None else share(part, 1.0)


def length(captions: CaptionFigures) -> str:
    """The mean, in tokens where they are known, else in characters."""
    for lengths, unit in ((captions.tokens, "tokens"), (captions.characters, "characters")):
        if lengths.mean is not None:
            return f"{lengths.mean:,.0f} {unit}"
    return NOTHING


def length_text(tokens: Lengths, characters: Lengths) -> str:
    """Tokens where they are known, else characters."""
    for lengths, unit in ((tokens, "tokens"), (characters, "characters")):
        if lengths.mean is not None and lengths.median is not None:
            return f"{lengths.mean:,.0f} / {lengths.median:,.0f} {unit}"
    return NOTHING


def _range(one: BenchmarkResult) -> str:
    captions = one.captions
    return f"{captions.most}" if captions.least == captions.most else f"{captions.least} to {captions.most}"


def _macro_name(benchmarks: int, released: int) -> str:
    return MACRO if released in (0, benchmarks) else f"{MACRO} (released: of {released})"
