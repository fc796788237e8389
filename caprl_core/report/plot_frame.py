"""What charts over steps share: axes, letters and key around a plot that fills the width there is."""

from collections.abc import Callable, Sequence
from typing import Final

from caprl_core.report.axes import inner_ticks
from caprl_core.report.markup import Html, clipped, escaped

ABOVE: Final = 10
"""Pixels over the plot, for the topmost mark's letters."""
BELOW: Final = 26
"""Pixels under it, for the steps."""
COLOURS: Final = (
    "var(--series-1,#0072b2)",
    "var(--series-2,#a84800)",
    "var(--series-3,#00735c)",
    "var(--series-4,#8a4a86)",
)
"""Of series by place, for pages light and dark: blue, orange, green and pink of Okabe and Ito, darker on white."""


def frame(
    marks: Sequence[float], span: tuple[float, float], height: int, x_name: str, *, axis_text: Callable[[float], str]
) -> list[str]:
    """The lines and letters of both axes; the plot fills the width, the marks' letters stand in the padding."""
    parts = []
    for value in marks:
        y = ABOVE + height * (marks[-1] - value) / (marks[-1] - marks[0])
        strong = "var(--quiet,#555c66)" if value == marks[0] else "var(--line,#d4d8de)"
        parts.append(f'<line x1="0" x2="100%" y1="{y:.1f}" y2="{y:.1f}" style="stroke:{strong};stroke-width:1"/>')
        parts.append(letters("0", y + 4, axis_text(value), "end", shift=-8))
    across = across_of(span)
    below = ABOVE + height + 20
    for place, value in enumerate(inner_ticks(*span, most=5)):
        name = f"{x_name} {value:,.0f}" if place == 0 else f"{value:,.0f}"
        parts.append(letters(f"{100 * across(value):.2f}%", below, name, "middle"))
    return parts


def joined_chart(title: str, *, told: str, unit: str, height: int, parts: Sequence[str], key: str) -> Html:
    """Key and drawing in one block; the drawing is one image whose text alternative says what it shows."""
    unit_text = f" Unit: {unit}." if unit else ""
    alternative = clipped(f"{title}.{unit_text} {told or 'nothing to show'}.", 4000)
    return Html(
        f'<div class="lines">{key}<svg class="chart" xmlns="http://www.w3.org/2000/svg" role="img" width="100%" '
        f'height="{ABOVE + height + BELOW}" font-size="12" '
        'style="box-sizing:border-box;padding:0 12px 0 48px;overflow:visible" '
        f'aria-label="{escaped(alternative)}"><title>{escaped(title)}</title>{"".join(parts)}</svg></div>'
    )


def key_entry(swatch: str, name: str, value: str = "") -> str:
    """One entry of a key: a drawing of 24 x 12 pixels, the name, and the newest value if there is one."""
    shown = f' <span class="newest">{escaped(value)}</span>' if value else ""
    drawing = f'<svg width="24" height="12" aria-hidden="true">{swatch}</svg>'
    return f"<li>{drawing} {escaped(name)}{shown}</li>"


def across_of(span: tuple[float, float]) -> Callable[[float], float]:
    """From x to 0 … 1; a span without extent puts everything in the middle."""
    first, last = span
    return (lambda x: (x - first) / (last - first)) if last > first else (lambda x: 0.5)


def letters(x: str, y: float, text: str, anchor: str, *, shift: int = 0, weight: str = "") -> str:
    """Text of the chart; quiet unless it has a weight of its own."""
    colour = "currentColor" if weight else "var(--quiet,#555c66)"
    return (
        f'<text x="{x}" y="{y:.1f}" dx="{shift}" text-anchor="{anchor}" '
        f'style="fill:{colour}{weight}">{escaped(text)}</text>'
    )
