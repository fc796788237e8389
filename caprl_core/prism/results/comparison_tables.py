"""The table of a comparison, and what it says in a sentence."""

from caprl_core.prism.compare import Compared, Comparison
from caprl_core.prism.results.run_result import Estimate
from caprl_core.prism.results.tables import percent
from caprl_core.prism.results.typeset import TextTable
from caprl_core.report.charts import NOTHING


def comparison_table(found: Comparison) -> TextTable:
    """A row a benchmark: both means, the difference with its interval, the questions won, tied and lost, and what the
    captions of both runs are like (first / second)."""
    level = f"{100 * found.intervals.level:g} %"
    return TextTable(
        f"{found.second} less {found.first}, points of 100, with {level} intervals over images",
        ["benchmark", "images", "questions", found.first, found.second, "difference", "of the best", "won", "tied",
         "lost", "verdict", "caption characters", "captions cut"],
        [_row(one) for one in (*found.benchmarks, found.macro)],
        summary=1,
    )  # fmt: skip


def verdict_line(found: Comparison) -> str:
    """The macro difference in words."""
    words = {"better": "better than", "worse": "worse than", "undecided": "not told apart from"}
    macro = found.macro
    line = f"{found.second} is {words[macro.verdict]} {found.first}: {gained(macro.difference)} points on average"
    return f"{line}; forced, although runs differ in: {'; '.join(found.forced)}" if found.forced else line


def gained(difference: Estimate) -> str:
    """+2.1 (+0.4 to +3.8)."""
    value = _signed(difference.value)
    if difference.low is None or difference.high is None:
        return f"{value} ({NOTHING})"
    return f"{value} ({_signed(difference.low)} to {_signed(difference.high)})"


def _row(one: Compared) -> list[str]:
    counts = (f"{count:,}" for count in (one.wins, one.ties, one.losses))
    return [
        one.name,
        f"{one.images:,}",
        f"{one.questions:,}",
        f"{100 * one.first:.1f}",
        f"{100 * one.second:.1f}",
        gained(one.difference),
        gained(one.best_difference),
        *counts,
        one.verdict,
        f"{_length(one.first_characters)} / {_length(one.second_characters)}",
        f"{percent(one.first_truncated)} / {percent(one.second_truncated)}",
    ]


def _length(characters: float | None) -> str:
    return NOTHING if characters is None else f"{characters:,.0f}"


def _signed(share: float) -> str:
    text = f"{100 * share:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text.replace("-", "\N{MINUS SIGN}")
