"""The tables of runs: every score with its interval, and beside it how long the captions are and how many were cut."""

from typing import Any

import pytest

from caprl_core.prism.results.run_result import Estimate, Lengths
from caprl_core.prism.results.tables import length_text, percent, points, run_tables, scored, side_by_side
from caprl_core.prism.results.typeset import as_text
from support.made_runs import Points, made_result

POINTS: Points = {
    name: {f"{name}-{image}": {f"q{image}": [1.0, 0.0, 1.0, None]} for image in range(20)}
    for name in ("charts", "maps")
}


def cells(points: Points = POINTS, **changes: Any) -> list[dict[str, str]]:
    """The rows of the first table by heading."""
    table = run_tables(made_result(points, **changes)[0])[0]
    return [dict(zip(table.headings, row, strict=True)) for row in table.rows]


def test_a_score_stands_with_its_interval_the_length_of_its_captions_and_their_cuts() -> None:
    charts, maps, macro = cells(released="math")
    assert charts["benchmark"] == "charts" and maps["benchmark"] == "maps" and macro["benchmark"] == "macro average"
    assert charts["mean"].startswith("66.7 (") and " to " in charts["mean"]
    assert charts["released mean"] == "66.7" and charts["released best"] == "100.0"
    assert (charts["questions"], macro["questions"]) == ("20", "40")
    assert (charts["caption length"], charts["captions cut"]) == ("115 tokens", "25.0 %")


def test_what_stands_behind_the_scores_is_counted() -> None:
    table = run_tables(made_result(POINTS)[0])[1]
    charts = dict(zip(table.headings, table.rows[0], strict=True))
    assert charts == {
        "benchmark": "charts", "images": "20", "captions": "4", "length, mean / median": "115 / 115 tokens",
        "unparsed": "33.3 %", "abstained": "0 %", "judge cut": "0 %", "failed": "20", "rejected": "0", "pending": "0",
    }  # fmt: skip


def test_a_macro_average_of_fewer_released_benchmarks_says_so() -> None:
    result = made_result(POINTS)[0]
    half = result.macro.model_copy(update={"released_benchmarks": 1})
    table = run_tables(result.model_copy(update={"macro": half}))[0]
    assert table.rows[-1][0] == "macro average (released: of 1)"


def test_an_unfinished_run_says_so_in_its_caption() -> None:
    assert "(unfinished)" in run_tables(made_result(POINTS, partial=True)[0])[0].caption


def test_runs_stand_side_by_side_with_their_lengths() -> None:
    one = made_result(POINTS, "thin")[0]
    other = made_result({"maps": POINTS["maps"], "photos": POINTS["maps"]}, "dense")[0]
    mean, best, lengths = side_by_side([one, other])
    assert mean.headings == ["benchmark", "thin", "dense"]
    assert [row[0] for row in mean.rows] == ["charts", "maps", "photos", "macro average"]
    assert mean.rows[0][2] == "—" and mean.rows[2][1] == "—" and mean.rows[1][1] == mean.rows[1][2]
    assert best.rows[1][1].startswith("100.0")
    assert lengths.rows[1] == ["maps", "115 tokens, 25.0 %", "115 tokens, 25.0 %"]
    assert "thin" in as_text(mean)


@pytest.mark.parametrize(
    ("estimate", "shown", "bare"),
    [
        (Estimate(value=0.483, low=0.451, high=0.512), "48.3 (45.1 to 51.2)", "48.3"),
        (Estimate(value=1.0, low=None, high=None), "100.0", "100.0"),
        (None, "—", "—"),
    ],
)
def test_scores_are_per_cent_with_one_decimal(estimate: Estimate | None, shown: str, bare: str) -> None:
    assert (scored(estimate), points(estimate)) == (shown, bare)


def test_lengths_are_in_tokens_where_they_are_known() -> None:
    known, unknown = Lengths(mean=1204.4, median=1100), Lengths(mean=None, median=None)
    assert length_text(known, unknown) == "1,204 / 1,100 tokens"
    assert length_text(unknown, known) == "1,204 / 1,100 characters"
    assert length_text(unknown, unknown) == "—"


@pytest.mark.parametrize(("part", "text"), [(None, "—"), (0.0, "0 %"), (0.25, "25.0 %"), (0.0001, "< 0.1 %")])
def test_shares_are_never_rounded_to_none(part: float | None, text: str) -> None:
    assert percent(part) == text
