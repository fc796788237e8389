"""Charts: every value is drawn and told, hostile labels stay text, and widths are shares of the largest value."""

import math
import re
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caprl_core.report.charts import MOST_BARS, Bar, bar_chart, funnel, heat_map, number, share
from caprl_core.report.markup import clipped, visible

HOSTILE = "</title><script>alert(1)</script>\"' onload=x & \u202egnp\x00\ud800"
NAMESPACE = "{http://www.w3.org/2000/svg}"


def drawn(svg: str) -> ET.Element:
    """The chart as a tree: fails unless it is well-formed XML."""
    return ET.fromstring(svg)


def written(root: ET.Element) -> list[str]:
    return ["".join(text.itertext()) for text in root.iter(f"{NAMESPACE}text")]


def widths(root: ET.Element, fill: str) -> list[float]:
    """Widths in per cent of the rectangles whose style names `fill`."""
    found = [rect for rect in root.iter(f"{NAMESPACE}rect") if fill in rect.get("style", "")]
    return [float((rect.get("width") or "").removesuffix("%")) for rect in found]


# Numbers


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (12345, "12,345"), (0.25, "0.25"), (math.nan, "—"), (math.inf, "—")]
)
def test_numbers_are_written_with_thousands_apart(value: float, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(
    ("part", "whole", "text"),
    [(0, 0, "—"), (0, 7, "0 %"), (7, 7, "100 %"), (1, 3, "33.3 %"), (1, 5000, "< 0.1 %"), (4999, 5000, "> 99.9 %")],
)
def test_a_share_is_never_rounded_to_none_or_all(part: int, whole: int, text: str) -> None:
    assert share(part, whole) == text


# Every chart


def charts_of(label: str) -> list[str]:
    return [
        bar_chart(label, [label, label], [Bar(label, (3, 1))], label),
        funnel(label, [(label, 3), (label, 1)], label),
        heat_map(label, [label], [label], [[3]], row_axis=label, column_axis=label, outlined={(0, 0)}, unit=label),
    ]


@given(st.text(max_size=60))
def test_any_label_leaves_a_chart_well_formed(label: str) -> None:
    for svg in charts_of(label):
        drawn(svg)


def test_hostile_labels_are_text_and_nothing_else() -> None:
    for svg in charts_of(HOSTILE):
        root = drawn(svg)
        assert {element.tag.removeprefix(NAMESPACE) for element in root.iter()} <= {"svg", "g", "title", "text", "rect"}
        assert not [name for element in root.iter() for name in element.attrib if name.startswith("on")]
        assert "\u202e" not in svg and "[U+202E]" in svg


def test_a_chart_is_one_image_with_a_title_and_all_its_values_as_text() -> None:
    root = drawn(bar_chart("Fruit", ["pieces"], [Bar("apples", (1200,)), Bar("pears", (3,))], "pieces"))
    assert root.get("role") == "img"
    assert root.get("aria-label") == "Fruit. Unit: pieces. apples: 1,200; pears: 3."
    assert root[0].tag == f"{NAMESPACE}title" and root[0].text == "Fruit"


def test_a_chart_without_values_says_so() -> None:
    for svg in (bar_chart("T", ["n"], []), funnel("T", []), heat_map("T", [], [], [], row_axis="r", column_axis="c")):
        assert "nothing to show" in (drawn(svg).get("aria-label") or "")


# Bars


def test_bars_are_as_long_as_their_share_of_the_largest() -> None:
    first, second = widths(drawn(bar_chart("T", ["n"], [Bar("one", (50,)), Bar("two", (200,))])), "--series-1")
    assert second == pytest.approx(4 * first, rel=1e-3) and 0 < second <= 100


def test_the_second_series_differs_by_more_than_colour() -> None:
    root = drawn(bar_chart("T", ["before", "after"], [Bar("A", (1, 2))]))
    outlined = [rect for rect in root.iter(f"{NAMESPACE}rect") if "fill:none" in rect.get("style", "")]
    assert len(outlined) == 2  # one bar, one key
    assert {"before", "after"} <= set(written(root))
    assert "A: before 1, after 2" in (root.get("aria-label") or "")


def test_a_missing_value_is_neither_drawn_as_a_number_nor_told() -> None:
    root = drawn(bar_chart("T", ["n"], [Bar("A", (None,)), Bar("B", (2,))]))
    assert "A: —; B: 2" in (root.get("aria-label") or "")
    assert written(root) == ["A", "B", "2"]


def test_shares_stand_with_the_values_when_there_is_a_whole() -> None:
    assert "5 · 50.0 %" in written(drawn(bar_chart("T", ["n"], [Bar("A", (5,))], whole=10)))


def test_all_bars_zero_are_drawn_without_width() -> None:
    assert widths(drawn(bar_chart("T", ["n"], [Bar("A", (0,))])), "--series-1") == [0]


def test_a_long_label_is_cut_in_the_chart_and_whole_in_its_text() -> None:
    label = "a reason that takes far more words than fit"
    root = drawn(bar_chart("T", ["n"], [Bar(label, (1,))]))
    assert label in (root.get("aria-label") or "")
    assert any(text.endswith("…") and len(text) < len(label) for text in written(root))


def test_too_many_bars_or_series_are_refused() -> None:
    with pytest.raises(ValueError, match="bars"):
        bar_chart("T", ["n"], [Bar("A", (1,))] * (MOST_BARS + 1))
    with pytest.raises(ValueError, match="series"):
        bar_chart("T", ["a", "b", "c"], [])
    with pytest.raises(ValueError):
        bar_chart("T", ["a", "b"], [Bar("A", (1,))])


# Funnel


def test_a_funnel_shows_what_each_step_lost() -> None:
    root = drawn(funnel("T", [("written", 200), ("usable", 100), ("kept", 50)]))
    assert widths(root, "--series-1") == [100, 50, 25]
    assert widths(root, "--ghost") == [100, 50]  # what the step before had, behind the two that lost something
    assert "usable: 100, 50.0 % of the first, 100 fewer" in (root.get("aria-label") or "")


# Heat map


def grid(counts: list[list[int]], **options: object) -> ET.Element:
    size = range(len(counts))
    labels = [str(place) for place in size]
    return drawn(heat_map("T", labels, labels, counts, row_axis="with", column_axis="without", **options))  # type: ignore[arg-type]


def test_the_first_row_lies_at_the_bottom() -> None:
    cells = [text for text in written(grid([[11, 22], [33, 44]])) if re.fullmatch(r"\d\d", text)]
    assert cells == ["33", "44", "11", "22"]


def test_more_is_darker_and_none_is_lightest() -> None:
    root = grid([[0, 1], [30, 1000]])
    rects = [rect.get("style", "") for rect in root.iter(f"{NAMESPACE}rect")]
    light = [sum(int(style[6 + at : 8 + at], 16) for at in (0, 2, 4)) for style in rects]  # fill:#rrggbb
    top_left, top_right, bottom_left, bottom_right = light
    assert bottom_left > bottom_right > top_left > top_right


def test_outlined_cells_have_a_border_of_their_own() -> None:
    frames = [rect for rect in grid([[1, 2], [3, 4]], outlined={(1, 0)}).iter(f"{NAMESPACE}rect")
              if "fill:none" in rect.get("style", "")]  # fmt: skip
    (frame,) = frames
    assert (frame.get("x"), frame.get("y")) == ("12.00%", "26")


def test_large_counts_are_shortened_where_cells_are_narrow() -> None:
    counts = [[0] * 11 for _ in range(11)]
    counts[3][4] = 12_345
    root = grid(counts)
    assert "12k" in written(root)
    assert "with 3, without 4: 12,345" in (root.get("aria-label") or "")


def test_counts_must_fit_their_labels() -> None:
    with pytest.raises(ValueError, match="2 rows of 1"):
        heat_map("T", ["a", "b"], ["c"], [[1], [2, 3]], row_axis="r", column_axis="c")


# Text


def test_characters_that_steer_or_hide_become_their_number() -> None:
    assert visible("a\u202eb\x00c\u200bd\ud800") == "a[U+202E]b[U+0000]c[U+200B]d[U+D800]"
    assert visible("one\r\ntwo\tثلاثة 四 👩\u200d🚀") == "one\ntwo\tثلاثة 四 👩\u200d🚀"


def test_a_pile_of_marks_is_cut_to_three() -> None:
    assert visible("e" + "\u0301" * 5000 + "f") == "e\u0301\u0301\u0301f"


@given(st.text(max_size=300), st.integers(1, 50))
def test_clipped_text_says_how_much_is_missing(text: str, limit: int) -> None:
    shown = clipped(text, limit)
    if len(text) <= limit:
        assert shown == text
    else:
        kept, _, rest = shown.rpartition(" … (")
        assert text.startswith(kept) and len(kept) <= limit
        assert int(rest.split()[0].replace(",", "")) == len(text) - len(kept)
