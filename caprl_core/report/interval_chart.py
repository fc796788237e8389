"""Horizontal bars of shares with their intervals, as inline SVG, on a scale from 0 to 100 per cent."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from caprl_core.report.charts import MOST_BARS, NOTHING, clipped_label
from caprl_core.report.markup import Html, clipped, escaped
from caprl_core.report.plot_frame import COLOURS

_MOST_SERIES: Final = 2
_REACH: Final = 58.0  # per cent of the width that 100 per cent takes; the rest holds the value and its interval
_MARKS: Final = (0, 25, 50, 75, 100)
_BAR: Final = 15  # pixels


@dataclass(frozen=True, slots=True)
class Measure:
    """A share, 0 to 1, and the ends of its interval where there is one."""

    value: float
    low: float | None = None
    high: float | None = None

    def __str__(self) -> str:
        """48.3 (45.1 to 51.2): per cent."""
        value = f"{100 * self.value:.1f}"
        if self.low is None or self.high is None:
            return value
        return f"{value} ({100 * self.low:.1f} to {100 * self.high:.1f})"


@dataclass(frozen=True, slots=True)
class MeasuredBar:
    """A label and one measure a series; None where a series has nothing to say."""

    label: str
    values: tuple[Measure | None, ...]


def interval_chart(title: str, series: Sequence[str], bars: Sequence[MeasuredBar]) -> Html:
    """Bars of one or two series, the second outlined; a line with ends marks each interval.

    Raises `ValueError` for more than two series or `MOST_BARS` bars, or a bar with another number of values.
    """
    if not 1 <= len(series) <= _MOST_SERIES or len(bars) > MOST_BARS:
        raise ValueError(f"{len(series)} series of {len(bars)} bars: a chart holds {_MOST_SERIES} and {MOST_BARS}")
    parts: list[str] = []
    top = 4
    if len(series) > 1:
        for place, name in enumerate(series):
            parts += [_bar(top, "14", place), _text("22", top + 12, name)]
            top += 22
        top += 6
    first = top
    told, rows = [], []
    for bar in bars:
        said = [
            f"{name} {value}" if len(series) > 1 else str(value)
            for name, value in zip(series, bar.values, strict=True)
            if value is not None
        ]
        told.append(f"{bar.label}: {', '.join(said) or NOTHING}")
        rows.append(f"<g><title>{escaped(told[-1])}</title>{_text('0', top + 13, clipped_label(bar.label))}")
        top += 20
        for place, value in enumerate(bar.values):
            rows.append(_text(f"{_REACH + 3:g}%", top + 12, NOTHING if value is None else str(value)))
            if value is not None:
                rows += [_bar(top, f"{_REACH * value.value:.2f}%", place), _whisker(value, top)]
            top += _BAR + 4
        top += 8
        rows.append("</g>")
    for mark in _MARKS:
        x = f"{_REACH * mark / 100:.2f}%"
        colour = "var(--quiet,#555c66)" if mark == 0 else "var(--line,#d4d8de)"
        parts.append(f'<line x1="{x}" x2="{x}" y1="{first}" y2="{top}" style="stroke:{colour};stroke-width:1"/>')
        parts.append(_text(x, top + 16, f"{mark} %" if mark else "0", "start" if mark == 0 else "middle", quiet=True))
    alternative = clipped(f"{title}. Unit: per cent. {'; '.join(told) or 'nothing to show'}.", 4000)
    return Html(
        f'<svg class="chart" xmlns="http://www.w3.org/2000/svg" role="img" width="100%" height="{top + 22}" '
        f'font-size="13" aria-label="{escaped(alternative)}"><title>{escaped(title)}</title>'
        f"{''.join([*parts, *rows])}</svg>"
    )


def _whisker(value: Measure, top: int) -> str:
    """The interval in the text's colour, on a wider line in the ground's, which parts it from the bar."""
    if value.low is None or value.high is None:
        return ""
    low, high = (f"{_REACH * end:.2f}%" for end in (value.low, value.high))
    middle = top + _BAR / 2
    lines = [(low, high, middle, middle), *((x, x, middle - 4, middle + 4) for x in (low, high))]
    return "".join(
        f'<line x1="{x1}" x2="{x2}" y1="{y1:g}" y2="{y2:g}" style="stroke:{colour};stroke-width:{width}"/>'
        for colour, width in (("var(--ground,#fff)", 4.5), ("currentColor", 1.75))
        for x1, x2, y1, y2 in lines
    )


def _bar(top: int, width: str, place: int) -> str:
    if place == 0:
        return f'<rect x="0" y="{top}" width="{width}" height="{_BAR}" style="fill:{COLOURS[0]}"/>'
    style = f"fill:none;stroke:{COLOURS[1]};stroke-width:2"
    return f'<rect x="0" y="{top + 1}" width="{width}" height="{_BAR - 2}" style="{style}"/>'


def _text(x: str, y: int, text: str, anchor: str = "start", *, quiet: bool = False) -> str:
    colour = "var(--quiet,#555c66)" if quiet else "currentColor"
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}" style="fill:{colour}">{escaped(text)}</text>'
