"""Charts as inline SVG: pure functions from numbers to markup, each with its values as text for screen readers.

Widths are percentages and heights pixels, without a view box: so the letters keep their size from a telephone to a
wide screen. Colours are the page's style variables, with a value of their own where there is no page around them.
"""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from caprl_core.report.markup import Html, clipped, escaped

NOTHING: Final = "—"
"""Stands where there is no value."""
MOST_BARS: Final = 60
"""Bars of a chart at most; `ValueError` beyond, since nobody could read it."""
_LABEL: Final = 34  # characters that fit beside a value in 330 px
_SERIES: Final = ("var(--series-1,#0072b2)", "var(--series-2,#a84800)")
_GHOST: Final = "var(--ghost,#ccd3dc)"
# One blue from light to dark, and the colour of text that reads on it with 4.5 : 1 at least.
_STEPS: Final = (
    ("#eef4fa", "#1a1d21"),
    ("#cfe1f2", "#1a1d21"),
    ("#a3c8e4", "#1a1d21"),
    ("#6ea6d2", "#1a1d21"),
    ("#2a6cab", "#ffffff"),
    ("#0b3c72", "#ffffff"),
)


@dataclass(frozen=True, slots=True)
class Bar:
    """A label and one value a series, 0 or more; None where a series has nothing to say."""

    label: str
    values: tuple[float | None, ...]


def number(value: float) -> str:
    """A count or a measure as people read it: 12,345 and 0.25."""
    if not math.isfinite(value):
        return NOTHING
    return f"{value:,.0f}" if value == round(value) else f"{value:,.2f}"


def share(part: float, whole: float) -> str:
    """A percentage, or a dash where there is no whole. Never 0 % or 100 % of what is not none or not all."""
    if not whole > 0:
        return NOTHING
    percent = 100 * part / whole
    if 0 < percent < 0.1:
        return "< 0.1 %"
    if 99.9 < percent < 100:
        return "> 99.9 %"
    return f"{percent:.0f} %" if percent in (0, 100) else f"{percent:.1f} %"


def bar_chart(title: str, series: Sequence[str], bars: Sequence[Bar], unit: str = "", *, whole: float = 0) -> Html:
    """Horizontal bars of one or two series, the second one outlined, so that colour is not all that tells them apart.

    `unit` follows each number in the text alternative. With a `whole` each value stands with its share of it. Raises
    `ValueError` for more than two series or `MOST_BARS` bars, or a bar with another number of values.
    """
    if not 1 <= len(series) <= len(_SERIES) or len(bars) > MOST_BARS:
        raise ValueError(f"{len(series)} series of {len(bars)} bars: a chart holds 2 and {MOST_BARS} at most")
    most = max((value or 0 for bar in bars for value in bar.values), default=0)
    short = all(len(bar.label) <= 4 for bar in bars)  # then the label stands in front of its bars
    parts: list[str] = []
    top = 4
    if len(series) > 1:
        for place, name in enumerate(series):
            parts += [_bar(0, top, "14", 14, place), _text("22", top + 12, name)]
            top += 22
        top += 6
    told = []
    for bar in bars:
        said = [
            f"{name} {_value(value, whole)}" if len(series) > 1 else _value(value, whole)
            for name, value in zip(series, bar.values, strict=True)
            if value is not None
        ]
        told.append(f"{bar.label}: {', '.join(said) or NOTHING}")
        parts.append(f"<g><title>{escaped(told[-1])}</title>")
        label = clipped_label(bar.label)
        if short:
            parts.append(_text("0", top + 8 * len(series) + 3, label))
            left, reach = 12.0, 50.0  # per cent; what is left at the right holds the value
        else:
            parts.append(_text("0", top + 12, label))
            top += 18
            left, reach = 0.0, 62.0
        for place, value in enumerate(bar.values):
            width = reach * (value or 0) / most if most else 0.0
            parts.append(_bar(left, top, f"{width:.2f}%", 13, place))
            if value is not None:
                parts.append(_text(f"{left + width:.2f}%", top + 11, _value(value, whole), shift=6))
            top += 16
        top += 8
        parts.append("</g>")
    return _svg(title, told, unit, top, parts)


def funnel(title: str, steps: Sequence[tuple[str, int]], unit: str = "") -> Html:
    """Bars of what is left after each step, with what the step before had shown behind them."""
    first = steps[0][1] if steps else 0
    parts: list[str] = []
    told = []
    top = 4
    before = first
    for label, count in steps:
        lost = f", {number(before - count)} fewer" if count < before else ""
        told.append(f"{label}: {number(count)}, {share(count, first)} of the first{lost}")
        parts.append(f"<g><title>{escaped(told[-1])}</title>")
        parts.append(_text("0", top + 12, clipped_label(label)))
        parts.append(_text("100%", top + 12, f"{number(count)} · {share(count, first)}", anchor="end"))
        scale = 100 / first if first else 0.0
        if before > count:
            parts.append(_rect("0", top + 18, f"{scale * before:.2f}%", 20, f"fill:{_GHOST}"))
        parts.append(_rect("0", top + 18, f"{scale * count:.2f}%", 20, f"fill:{_SERIES[0]}"))
        parts.append("</g>")
        top += 48
        before = count
    return _svg(title, told, unit, top, parts)


def heat_map(
    title: str,
    rows: Sequence[str],
    columns: Sequence[str],
    counts: Sequence[Sequence[int]],
    *,
    row_axis: str,
    column_axis: str,
    outlined: Collection[tuple[int, int]] = (),
    unit: str = "",
) -> Html:
    """A grid of counts, darker for more on a logarithmic scale; the first row is the lowest, as on an axis.

    `counts[row][column]`; cells at the positions `outlined` (row, column) have a thick border. The text alternative
    names every cell that is not zero. Raises `ValueError` when the counts do not fit the labels.
    """
    if len(counts) != len(rows) or any(len(line) != len(columns) for line in counts):
        raise ValueError(f"counts must be {len(rows)} rows of {len(columns)}")
    most = max((count for line in counts for count in line), default=0)
    left, height, top = 12.0, 36, 26
    width = (100 - left) / max(1, len(columns))
    parts = [_text("0", 13, f"↑ {row_axis}")]
    frames: list[str] = []
    told = []
    for row in reversed(range(len(rows))):
        parts.append(_text("0", top + 22, rows[row]))
        for column, count in enumerate(counts[row]):
            x = left + width * column
            fill, ink = _STEPS[_step(count, most)]
            cell = f"{row_axis} {rows[row]}, {column_axis} {columns[column]}: {number(count)}"
            if count:
                told.append(cell)
            parts.append(f"<g><title>{escaped(cell)}</title>")
            # A hair of the ground between the cells, of the same width whatever the page's.
            parts.append(
                _rect(
                    f"{x:.2f}%", top, f"{width:.2f}%", height, f"fill:{fill};stroke:var(--ground,#fff);stroke-width:2"
                )
            )
            shown = number(count) if len(columns) <= 6 else _brief(count)
            style = f"fill:{ink};opacity:{1 if count else 0.55}"
            parts.append(_text(f"{x + width / 2:.2f}%", top + 23, shown, anchor="middle", style=style))
            parts.append("</g>")
            if (row, column) in outlined:
                style = "fill:none;stroke:var(--series-2,#a84800);stroke-width:4"
                frames.append(_rect(f"{x:.2f}%", top, f"{width:.2f}%", height, style))
        top += height
    for column, label in enumerate(columns):
        parts.append(_text(f"{left + width * (column + 0.5):.2f}%", top + 18, label, anchor="middle"))
    parts.append(_text("100%", top + 38, f"{column_axis} →", anchor="end"))
    return _svg(title, told, unit, top + 46, [*parts, *frames])


def clipped_label(label: str) -> str:
    """A label that fits in one line of the narrowest chart; the whole of it is in the title and the table."""
    return label if len(label) <= _LABEL else f"{label[: _LABEL - 1]}…"


def _svg(title: str, told: Sequence[str], unit: str, height: int, parts: Sequence[str]) -> Html:
    unit_text = f" Unit: {unit}." if unit else ""
    alternative = clipped(f"{title}.{unit_text} {'; '.join(told) or 'nothing to show'}.", 4000)
    return Html(
        f'<svg class="chart" xmlns="http://www.w3.org/2000/svg" role="img" width="100%" height="{height}" '
        f'font-size="13" aria-label="{escaped(alternative)}"><title>{escaped(title)}</title>{"".join(parts)}</svg>'
    )


def _value(value: float, whole: float) -> str:
    return f"{number(value)} · {share(value, whole)}" if whole else number(value)


def _brief(count: int) -> str:
    if count < 1000:
        return str(count)
    return f"{count / 1000:.0f}k" if count < 999_500 else f"{count / 1e6:.0f}M"


def _step(count: int, most: int) -> int:
    """0 for none; then evenly over the logarithm, so that small cells are seen beside one that holds nearly all."""
    if count <= 0:
        return 0
    last = len(_STEPS) - 1
    return last if most <= 1 else 1 + round((last - 1) * math.log(count) / math.log(most))


def _bar(left: float, top: int, width: str, height: int, place: int) -> str:
    style = f"fill:{_SERIES[0]}" if place == 0 else f"fill:none;stroke:{_SERIES[1]};stroke-width:2"
    if place == 0:
        return _rect(f"{left:g}%", top, width, height, style)
    return _rect(f"{left:g}%", top + 1, width, height - 2, style)


def _rect(x: str, y: int, width: str, height: int, style: str) -> str:
    return f'<rect x="{x}" y="{y}" width="{width}" height="{height}" style="{style}"/>'


def _text(x: str, y: int, text: str, *, anchor: str = "start", shift: int = 0, style: str = "fill:currentColor") -> str:
    return f'<text x="{x}" y="{y}" dx="{shift}" text-anchor="{anchor}" style="{style}">{escaped(text)}</text>'
