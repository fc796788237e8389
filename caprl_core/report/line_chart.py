"""A chart of lines over steps, as inline SVG without a script: letters keep their size from a telephone to a wide
screen, and thousands of steps are thinned without losing a spike."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from caprl_core.report.axes import figure, tick_text, ticks
from caprl_core.report.markup import Html, escaped
from caprl_core.report.plot_frame import ABOVE, COLOURS, across_of, frame, joined_chart, key_entry, letters

Point = tuple[float, float]

MOST_LINES: Final = 4
"""Lines of a chart at most that colour and dashes still tell apart; faint ones belong to the line after them."""
DRAWN_BINS: Final = 300
"""A line is drawn with the lowest and highest point of so many stretches: a pixel or two each."""
BANDS: Final = 60
"""Stretches that tell their values when pointed at."""
_DOTS: Final = 60  # more dots would touch each other
_WIDE: Final = 1000.0  # units of the inner drawing, which is stretched to the width there is
_DASHES: Final = ("", "7 4", "2 3", "9 3 2 3")


@dataclass(frozen=True, slots=True)
class Line:
    """A named series of finite (x, y), by ascending x.

    faint: a thin line behind, in the colour of the next line, whose raw values it shows. dots: a dot a point, joined.
    """

    name: str
    points: Sequence[Point]
    look: Literal["line", "faint", "dots"] = "line"


@dataclass(frozen=True, slots=True)
class Marked:
    """A point to be seen first, and the words beside it."""

    point: Point
    label: str


def line_chart(
    title: str,
    lines: Sequence[Line],
    *,
    span: tuple[float, float],
    unit: str = "",
    x_name: str = "step",
    height: int = 190,
    around: Sequence[float] = (0.0,),
    marked: Marked | None = None,
    text: Callable[[float], str] = figure,
) -> Html:
    """The chart with its key; lines without a point are only told.

    x are whole numbers. span: first and last x, whatever the points reach, so that charts under each other align.
    around: values that the vertical axis must reach. text: how values are written. height: pixels of the plot.
    Raises `ValueError` for more than `MOST_LINES` lines that are not faint.
    """
    places = _places(lines)
    values = [y for line in lines for _, y in line.points] + list(around)
    marks = ticks(min(values), max(values))
    low, high = marks[0], marks[-1]
    across = across_of(span)

    def up(y: float) -> float:
        return ABOVE + height * (high - y) / (high - low)

    parts = [*frame(marks, span, height, x_name, axis_text=_axis_text(marks, text))]
    inner, dots = [], []
    for line, place in zip(lines, places, strict=True):
        drawn = [(across(x) * _WIDE, up(y)) for x, y in thinned(line.points, DRAWN_BINS)]
        if len(drawn) > 1:
            inner.append(_polyline(drawn, place, line.look))
        if len(line.points) == 1 or (line.look == "dots" and len(line.points) <= _DOTS):
            radius = "2.5" if line.look == "faint" else "4"
            for x, y in line.points:
                said = f"{line.name}: {text(y)} at {x_name} {x:,.0f}"
                dots.append(
                    f'<circle cx="{100 * across(x):.2f}%" cy="{up(y):.1f}" r="{radius}" '
                    f'style="fill:var(--ground,#fff);stroke:{COLOURS[place]};stroke-width:2">'
                    f"<title>{escaped(said)}</title></circle>"
                )
    parts.append(
        f'<svg x="0" y="0" width="100%" height="{height + 2 * ABOVE}" viewBox="0 0 {_WIDE:g} {height + 2 * ABOVE}" '
        f'preserveAspectRatio="none">{"".join(inner)}</svg>'
    )
    parts += [_bands(lines, span, height, x_name, text), *dots]
    if marked is not None:
        parts.append(_mark(marked, across(marked.point[0]), up(marked.point[1])))
    told = "; ".join(_told(line, x_name, text) for line in lines)
    return joined_chart(title, told=told, unit=unit, height=height, parts=parts, key=_key(lines, places, text))


def thinned(points: Sequence[Point], bins: int) -> list[Point]:
    """Of each of `bins` equal stretches of the list its lowest and highest point, and the ends, in order."""
    if len(points) <= 2 * bins:
        return list(points)
    kept = {0, len(points) - 1}
    for number in range(bins):
        stretch = range(number * len(points) // bins, (number + 1) * len(points) // bins)
        kept |= {min(stretch, key=lambda at: points[at][1]), max(stretch, key=lambda at: points[at][1])}
    return [points[at] for at in sorted(kept)]


def _places(lines: Sequence[Line]) -> list[int]:
    """The place of each line in the list of colours."""
    places, place = [], 0
    for line in lines:
        places.append(place)
        place += line.look != "faint"
    if place > MOST_LINES or (places and places[-1] >= MOST_LINES):
        raise ValueError(f"{place} lines: a chart holds {MOST_LINES} at most")
    return places


def _axis_text(marks: Sequence[float], text: Callable[[float], str]) -> Callable[[float], str]:
    return (lambda value: tick_text(value, marks)) if text is figure else text


def _polyline(points: Sequence[Point], place: int, look: str) -> str:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dash = _DASHES[place] if look == "line" else ""
    width, opacity = {"line": (2, 1.0), "faint": (1, 0.55), "dots": (1.5, 0.9)}[look]
    dashes = f";stroke-dasharray:{dash}" if dash else ""
    return (
        f'<polyline points="{path}" style="fill:none;stroke:{COLOURS[place]};stroke-width:{width};opacity:{opacity};'
        f'stroke-linejoin:round;vector-effect:non-scaling-stroke{dashes}"/>'
    )


def _bands(
    lines: Sequence[Line], span: tuple[float, float], height: int, x_name: str, text: Callable[[float], str]
) -> str:
    """Stretches over the whole height that tell the mean of each line where they are pointed at."""
    across = across_of(span)
    count = int(min(BANDS, span[1] - span[0] + 1))
    told: dict[int, list[str]] = {}
    reach: dict[int, tuple[float, float]] = {}
    for line in lines:
        found: dict[int, list[Point]] = {}
        for point in line.points:
            found.setdefault(min(count - 1, max(0, int(across(point[0]) * count))), []).append(point)
        for band, points in found.items():
            mean = math.fsum(y for _, y in points) / len(points)
            told.setdefault(band, []).append(f"{line.name}: {text(mean)}")
            first, last = reach.get(band, (points[0][0], points[-1][0]))
            reach[band] = min(first, points[0][0]), max(last, points[-1][0])
    parts = []
    for band in sorted(told):
        first, last = reach[band]
        steps = f"{x_name} {first:,.0f}" if first == last else f"{x_name} {first:,.0f} to {last:,.0f}"
        parts.append(
            f'<rect class="band" x="{100 * band / count:.3f}%" y="{ABOVE}" width="{100 / count:.3f}%" '
            f'height="{height}" fill="transparent"><title>{escaped(chr(10).join([steps, *told[band]]))}</title></rect>'
        )
    return "".join(parts)


def _mark(marked: Marked, across: float, y: float) -> str:
    side, shift = ("end", 2) if across > 0.8 else ("start", -2)
    if across < 0.2:
        side, shift = "start", -2
    x = f"{100 * across:.2f}%"
    label = letters(x, max(ABOVE + 2, y - 12), marked.label, side, shift=shift, weight=";font-weight:700")
    return f'<circle cx="{x}" cy="{y:.1f}" r="6" style="fill:{COLOURS[1]};stroke:var(--ground,#fff)"/>{label}'


def _told(line: Line, x_name: str, text: Callable[[float], str]) -> str:
    """The line in words: its ends and extremes."""
    if not line.points:
        return f"{line.name}: no value"
    first, last = line.points[0], line.points[-1]
    if len(line.points) == 1:
        return f"{line.name}: {text(first[1])} at {x_name} {first[0]:,.0f}"
    low, high = min(line.points, key=lambda point: point[1]), max(line.points, key=lambda point: point[1])
    return (
        f"{line.name}: {text(first[1])} at {x_name} {first[0]:,.0f}, {text(last[1])} at {x_name} {last[0]:,.0f}, "
        f"lowest {text(low[1])} at {low[0]:,.0f}, highest {text(high[1])} at {high[0]:,.0f}"
    )


def _key(lines: Sequence[Line], places: Sequence[int], text: Callable[[float], str]) -> str:
    entries = []
    for line, place in zip(lines, places, strict=True):
        swatch = _polyline([(0, 6), (24, 6)], place, line.look)
        if line.look == "dots":
            swatch += f'<circle cx="12" cy="6" r="4" style="fill:var(--ground,#fff);stroke:{COLOURS[place]}"/>'
        newest = text(line.points[-1][1]) if line.points else "no value yet"
        entries.append(key_entry(swatch, line.name, newest if line.look != "faint" else ""))
    return f'<ul class="key">{"".join(entries)}</ul>'
