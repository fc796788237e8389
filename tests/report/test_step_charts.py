"""Charts over steps: every value told, spikes kept, one step or thousands, hostile names text and nothing else."""

import math
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caprl_core.report.axes import figure, inner_ticks, tick_text, ticks
from caprl_core.report.line_chart import BANDS, DRAWN_BINS, Line, Marked, line_chart, thinned
from caprl_core.report.stacked_chart import Stack, stacked_chart

HOSTILE = "</title><script>alert(1)</script>\"' onload=x & \u202egnp\x00\ud800"
SVG = "{http://www.w3.org/2000/svg}"
ROOM = st.floats(-1e100, 1e100)


def drawn(markup: str) -> ET.Element:
    """The chart itself as a tree; fails unless it is well-formed XML."""
    (svg,) = [svg for svg in ET.fromstring(markup).iter(f"{SVG}svg") if svg.get("role") == "img"]
    return svg


def polylines(markup: str) -> list[list[tuple[float, float]]]:
    return [
        [(float(x), float(y)) for x, y in (point.split(",") for point in (line.get("points") or "").split())]
        for line in drawn(markup).iter(f"{SVG}polyline")
    ]


def letters(markup: str) -> list[str]:
    return [text.text or "" for text in drawn(markup).iter(f"{SVG}text")]


# Axes


@given(ROOM, ROOM, st.integers(3, 9), st.booleans())
def test_marks_enclose_the_values_in_equal_round_steps(one: float, other: float, most: int, whole: bool) -> None:
    low, high = sorted((math.fmod(one, 2**50), math.fmod(other, 2**50)) if whole else (one, other))
    marks = ticks(low, high, most, whole=whole)
    slack = max(1e-6 * max(abs(low), abs(high)), 1e-290)
    assert 2 <= len(marks) <= most and marks == sorted(set(marks))
    assert marks[0] <= low + slack and marks[-1] >= high - slack
    assert not whole or all(mark == round(mark) for mark in marks)


@pytest.mark.parametrize(
    ("low", "high", "marks"),
    [
        (0, 0.54, ["0", "0.2", "0.4", "0.6"]),
        (0, 3e-4, ["0", "1e-4", "2e-4", "3e-4"]),
        (0, 3700, ["0", "1,000", "2,000", "3,000", "4,000"]),
        (-0.3, 0.2, ["-0.4", "-0.2", "0", "0.2"]),
        (0, 0, ["0", "0.5", "1.0"]),
        (0, 2.5e7, ["0", "1e7", "2e7", "3e7"]),
    ],
)
def test_marks_are_written_as_people_read_them(low: float, high: float, marks: list[str]) -> None:
    found = ticks(low, high)
    assert [tick_text(mark, found) for mark in found] == marks


@pytest.mark.parametrize(("low", "high", "marks"), [(1, 60, [20, 40, 60]), (0, 2, [0, 1, 2]), (7, 7, [7])])
def test_steps_are_whole_numbers_that_were_done(low: float, high: float, marks: list[float]) -> None:
    assert inner_ticks(low, high, 5) == marks


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.5423, "0.542"), (3.0195, "3.02"), (63.14, "63.1"), (1204.4, "1,204"), (64, "64"), (0, "0"), (3e-4, "3e-4"),
     (2.14e-6, "2.1e-6"), (-0.25, "-0.250"), (None, "—"), (math.nan, "—")],
)  # fmt: skip
def test_a_figure_has_three_digits_that_count(value: float | None, text: str) -> None:
    assert figure(value) == text


# Lines


def test_a_line_is_drawn_from_its_first_to_its_last_step_at_its_heights() -> None:
    chart = line_chart("T", [Line("reward", [(0, 0.0), (5, 1.0), (10, 0.5)])], span=(0, 10), height=100)
    assert polylines(chart) == [[(0, 110), (500, 10), (1000, 60)]]  # 10 px over the plot


def test_a_chart_tells_ends_and_extremes_of_each_line() -> None:
    lines = [
        Line("train", [(1, 0.2), (2, 0.1), (3, 0.75), (4, 0.5)]),
        Line("held out", [(0, 0.3)], "dots"),
        Line("x", []),
    ]
    told = drawn(line_chart("Reward", lines, span=(0, 4), unit="points")).get("aria-label")
    assert told == (
        "Reward. Unit: points. train: 0.200 at step 1, 0.500 at step 4, lowest 0.100 at 2, highest 0.750 at 3; "
        "held out: 0.300 at step 0; x: no value."
    )


def test_the_key_names_every_line_with_its_newest_value() -> None:
    lines = [Line("each", [(1, 0.1), (2, 0.9)], "faint"), Line("mean", [(1, 0.1), (2, 0.5)]), Line("none", [])]
    key = ["".join(one.itertext()).split() for one in ET.fromstring(line_chart("T", lines, span=(1, 2))).iter("li")]
    assert key == [["each"], ["mean", "0.500"], ["none", "no", "value", "yet"]]


def test_lines_differ_by_more_than_colour_and_a_faint_one_belongs_to_the_next() -> None:
    points = [(1.0, 1.0), (2.0, 2.0)]
    lines = [Line("raw", points, "faint"), *(Line(name, points) for name in "abcd")]
    styles = [line.get("style") or "" for line in drawn(line_chart("T", lines, span=(1, 2))).iter(f"{SVG}polyline")]
    dashes = [style.partition("dasharray:")[2] for style in styles]
    assert len(set(dashes[1:])) == 4
    assert [place for place, style in enumerate(styles) if "--series-1" in style] == [0, 1]
    with pytest.raises(ValueError, match="5 lines"):
        line_chart("T", [*lines, Line("e", points)], span=(1, 2))


def test_one_step_is_a_dot_and_no_step_an_empty_frame() -> None:
    one = drawn(line_chart("T", [Line("reward", [(1, 0.5)])], span=(1, 1)))
    (dot,) = one.iter(f"{SVG}circle")
    assert dot.get("cx") == "50.00%" and "step 1" in letters(line_chart("T", [], span=(1, 1)))
    empty = line_chart("T", [], span=(0, 1))
    assert polylines(empty) == [] and "nothing to show" in (drawn(empty).get("aria-label") or "")


def test_thousands_of_steps_are_thinned_and_no_spike_is_lost() -> None:
    points = [(float(step), math.sin(step)) for step in range(20_000)]
    points[12_345] = (12_345, 50.0)
    points[777] = (777, -50.0)
    chart = line_chart("T", [Line("norm", points)], span=(0, 19_999), height=100)
    (line,) = polylines(chart)
    assert len(line) <= 2 * DRAWN_BINS + 2
    assert {min(y for _, y in line), max(y for _, y in line)} == {10.0, 110.0}
    assert len(chart) < 40_000


@given(st.lists(st.floats(-1e9, 1e9), max_size=200), st.integers(1, 20))
def test_thinning_keeps_order_ends_and_extremes(values: list[float], bins: int) -> None:
    points = [(float(place), value) for place, value in enumerate(values)]
    kept = thinned(points, bins)
    assert kept == sorted(kept) and set(kept) <= set(points) and len(kept) <= 2 * bins + 2
    if points:
        assert kept[0] == points[0] and kept[-1] == points[-1]
        assert {min(values), max(values)} <= {value for _, value in kept}


def test_a_stretch_of_steps_tells_its_means_where_it_is_pointed_at() -> None:
    lines = [Line("a", [(float(step), step % 2) for step in range(1, 601)]), Line("b", [(0, 7.0)], "dots")]
    bands = list(drawn(line_chart("T", lines, span=(0, 600))).iter(f"{SVG}rect"))
    assert len(bands) == BANDS
    assert bands[0][0].text == "step 0 to 9\na: 0.556\nb: 7"
    assert bands[1][0].text == "step 10 to 19\na: 0.500"


@pytest.mark.parametrize(("step", "side"), [(0, "start"), (50, "start"), (100, "end")])
def test_a_marked_point_has_its_words_beside_it_inside_the_chart(step: float, side: str) -> None:
    chart = line_chart("T", [], span=(0, 100), marked=Marked((step, 0.9), "best 0.9"), around=(0, 1))
    (words,) = [text for text in drawn(chart).iter(f"{SVG}text") if text.text == "best 0.9"]
    assert (words.get("text-anchor"), words.get("x")) == (side, f"{step:.2f}%")


# Stacks


def heights(rects: list[ET.Element]) -> list[float]:
    return [float(rect.get("height") or 0) for rect in rects]


def test_parts_are_stacked_to_the_height_of_their_sum() -> None:
    chart = stacked_chart("T", ["a", "b"], [Stack(1, 1, (1, 2)), Stack(2, 2, (4, 0))], unit="s", height=100)
    rects = list(drawn(chart).iter(f"{SVG}rect"))
    assert heights(rects) == [25, 50, 100, 0]
    assert [float(rect.get("y") or 0) for rect in rects] == [85, 35, 10, 10]
    assert [rect.get("x") for rect in rects] == ["0.000%", "0.000%", "50.000%", "50.000%"]
    assert (drawn(chart).get("aria-label") or "") == "T. Unit: s. a: 2.50 on average; b: 1 on average."
    assert [title.text for title in drawn(chart).iter(f"{SVG}title")][1] == "step 1\na: 1\nb: 2"


def test_one_stack_and_none_are_charts_too() -> None:
    (rect,) = drawn(stacked_chart("T", ["a"], [Stack(7, 7, (3,))])).iter(f"{SVG}rect")
    assert rect.get("width") == "100.000%"
    assert "nothing to show" in (drawn(stacked_chart("T", ["a"], [])).get("aria-label") or "")


def test_a_stack_must_have_a_part_for_each_name() -> None:
    with pytest.raises(ValueError, match="a part for each"):
        stacked_chart("T", ["a", "b"], [Stack(1, 1, (1,))])
    with pytest.raises(ValueError, match="5 names"):
        stacked_chart("T", list("abcde"), [])


# Text


def test_hostile_names_are_text_and_nothing_else() -> None:
    charts = [
        line_chart(HOSTILE, [Line(HOSTILE, [(1, 1), (2, 2)], "dots")], span=(1, 2), unit=HOSTILE, x_name=HOSTILE,
                   marked=Marked((1, 1), HOSTILE)),
        stacked_chart(HOSTILE, [HOSTILE], [Stack(1, 1, (1,))], unit=HOSTILE, x_name=HOSTILE),
    ]  # fmt: skip
    for chart in charts:
        root = ET.fromstring(chart)
        tags = {element.tag.removeprefix(SVG) for element in root.iter()}
        assert tags <= {"div", "ul", "li", "span", "svg", "g", "title", "text", "rect", "line", "polyline", "circle"}
        assert not [name for element in root.iter() for name in element.attrib if name.startswith("on")]
        assert "\u202e" not in chart and "[U+202E]" in chart
