"""The chart of shares with intervals: every value drawn and told, on one scale, whatever the labels."""

import xml.etree.ElementTree as ET

import pytest

from caprl_core.report.charts import MOST_BARS
from caprl_core.report.interval_chart import Measure, MeasuredBar, interval_chart

HOSTILE = "</title><script>alert(1)</script>\"' onload=x & \u202egnp\x00\ud800"
NAMESPACE = "{http://www.w3.org/2000/svg}"


def drawn(svg: str) -> ET.Element:
    return ET.fromstring(svg)


def percent(text: str | None) -> float:
    return float((text or "").removesuffix("%"))


def bars(root: ET.Element) -> list[float]:
    return [percent(rect.get("width")) for rect in root.iter(f"{NAMESPACE}rect") if "%" in (rect.get("width") or "")]


def whiskers(root: ET.Element) -> set[tuple[float, float]]:
    """Ends of the horizontal lines."""
    lines = [line for line in root.iter(f"{NAMESPACE}line") if line.get("y1") == line.get("y2")]
    return {(percent(line.get("x1")), percent(line.get("x2"))) for line in lines}


def test_bars_and_intervals_stand_on_the_same_scale() -> None:
    root = drawn(interval_chart("Scores", ["ours"], [MeasuredBar("charts", (Measure(0.5, 0.25, 1.0),))]))
    (bar,), ((low, high),) = bars(root), whiskers(root)
    assert (low / bar, high / bar) == pytest.approx((0.5, 2.0))


def test_the_scale_is_the_same_whatever_the_values() -> None:
    low, high = (bars(drawn(interval_chart("x", ["ours"], [MeasuredBar("a", (Measure(v),))])))[0] for v in (0.1, 1.0))
    assert high == pytest.approx(10 * low)


def test_every_value_is_written_and_told() -> None:
    chart = interval_chart(
        "Scores", ["ours", "released"], [MeasuredBar("charts", (Measure(0.483, 0.451, 0.512), Measure(0.2))),
                                         MeasuredBar("maps", (Measure(1.0), None))]
    )  # fmt: skip
    root = drawn(chart)
    written = ["".join(text.itertext()) for text in root.iter(f"{NAMESPACE}text")]
    for part in ("charts", "maps", "48.3 (45.1 to 51.2)", "20.0", "100.0", "—", "ours", "released", "50 %"):
        assert part in written
    assert root.get("aria-label") == (
        "Scores. Unit: per cent. charts: ours 48.3 (45.1 to 51.2), released 20.0; maps: ours 100.0."
    )
    assert len(whiskers(root)) == 1


def test_hostile_labels_stay_text() -> None:
    root = drawn(interval_chart(HOSTILE, [HOSTILE, HOSTILE], [MeasuredBar(HOSTILE, (Measure(0.5), None))]))
    assert not list(root.iter(f"{NAMESPACE}script"))


def test_too_much_for_a_chart_is_refused() -> None:
    with pytest.raises(ValueError, match="3 series"):
        interval_chart("x", ["a", "b", "c"], [])
    with pytest.raises(ValueError, match="61 bars"):
        interval_chart("x", ["a"], [MeasuredBar("a", (Measure(0.5),))] * (MOST_BARS + 1))
    with pytest.raises(ValueError):
        interval_chart("x", ["a", "b"], [MeasuredBar("a", (Measure(0.5),))])
