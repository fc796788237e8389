"""Bar charts: what is drawn is what is said, to the pixel."""

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caprl_core.world.charts import (
    BASE,
    SIDES,
    UNIT,
    VALUES,
    Bar,
    Chart,
    chart_caption,
    chart_facts,
    chart_questions,
    draw_chart,
    random_chart,
    stated_chart_facts,
)
from caprl_core.world.drawing import CELL, RGB

CHART = Chart((Bar("orange", "two", "left"), Bar("blue", "five", "right")))


def test_everything_is_said() -> None:
    caption = chart_caption(CHART)
    assert caption == "A bar chart with two bars: an orange bar of two on the left and a blue bar of five on the right."
    assert stated_chart_facts(caption) == chart_facts(CHART)
    assert stated_chart_facts("There is a red bar of one.") - chart_facts(CHART) == {
        ("bar", "red", ""),
        ("value", "red", "one"),
    }
    assert stated_chart_facts("There are three shapes.") == frozenset()


@given(st.integers(0, 10_000))
def test_any_chart_is_captioned_and_asked_about_in_full(seed: int) -> None:
    rng = random.Random(seed)
    chart = random_chart(rng)
    assert stated_chart_facts(chart_caption(chart)) == chart_facts(chart)
    questions = chart_questions(chart, rng)
    assert len(questions) == 2 + 2 * len(chart.bars)
    assert all(len(set(question.options)) == 4 for question in questions)
    answers = {question.stem: question.gold_text for question in questions}
    assert answers["What is the number of bars?"] == ("two", "three")[len(chart.bars) - 2]
    for bar in chart.bars:
        assert answers[f"What is the value of the {bar.colour} bar?"] == bar.value
        assert VALUES.index(bar.value) <= max(
            VALUES.index(one.value) for one in chart.bars if one.colour == answers["Which bar is the tallest?"]
        )


@given(st.integers(0, 500))
def test_bars_are_as_tall_as_their_value_and_labelled_above(seed: int) -> None:
    chart = random_chart(random.Random(seed))
    pixels = np.asarray(draw_chart(chart, seed)).astype(int)
    for bar in chart.bars:
        middle = SIDES.index(bar.side) * CELL + CELL // 2
        top = BASE - UNIT * (VALUES.index(bar.value) + 1)
        column = pixels[top + 2 : BASE - 2, middle - 5]
        assert (np.abs(column - np.array(RGB[bar.colour])) == 0).all()
        assert (pixels[top - 12 : top - 2, middle - 3 : middle + 3] == 0).any()
        assert (pixels[: max(0, top - 13), middle] > 100).all()


def test_labels_differ() -> None:
    seen = set()
    for value in VALUES:
        pixels = np.asarray(draw_chart(Chart((Bar("red", value, "left"), Bar("blue", _other(value), "right")))))
        top = BASE - UNIT * (VALUES.index(value) + 1)
        seen.add((pixels[top - 12 : top - 2, 11:17] == 0).tobytes())
    assert len(seen) == len(VALUES)


def _other(value: str) -> str:
    return "one" if value != "one" else "two"


@pytest.mark.parametrize(
    "bars",
    [
        (Bar("red", "one", "left"),),
        (Bar("red", "one", "right"), Bar("blue", "two", "left")),
        (Bar("red", "one", "left"), Bar("red", "two", "right")),
        (Bar("red", "one", "left"), Bar("blue", "one", "right")),
    ],
)
def test_what_is_no_chart(bars: tuple[Bar, ...]) -> None:
    with pytest.raises(ValueError, match="bars"):
        Chart(bars)
    with pytest.raises(ValueError, match="no such bar"):
        Bar("red", "nine", "left")
