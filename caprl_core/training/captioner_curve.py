"""The reward over the run as a picture file of its own, for the card of the captioner."""

from collections.abc import Sequence
from typing import Final

from caprl_core.report.axes import figure, inner_ticks, tick_text, ticks
from caprl_core.report.line_chart import Point, thinned
from caprl_core.report.markup import escaped
from caprl_core.training.page.curves import rolling_mean
from caprl_core.training.page.run_files import RunFiles, column

_WIDTH, _HEIGHT = 720, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 16, 34, 40
"""Margins of the plot, for the letters."""
_SMOOTHED: Final = 20
"""The training curve is a mean over about so many-th of the run, as on the training page."""
_BINS: Final = 300
_COLOURS: Final = ("#0072b2", "#a84800", "#00735c")
"""Blue, orange and green of Okabe and Ito, darker on white, as on the training page."""


def captioner_curve(run: RunFiles, exported: int) -> str:
    """An SVG file of 720 x 300 pixels: reward of the steps, and of the held-out pictures by each reader.

    `exported` is the step the captioner is from: a line marks it. A run without any figure gives empty axes.
    """
    steps = column(run.steps, "reward")
    window = 2 * round(len(steps) / _SMOOTHED / 2) + 1
    series: list[tuple[str, Sequence[Point], bool]] = [
        ("training", thinned(rolling_mean(steps, window), _BINS), False),
        ("held out", column(run.evaluations, "reward"), True),
        ("held out, second reader", column(run.evaluations, "second_reward"), True),
    ]
    known = [one for one in series if one[1]]
    points = [point for _, some, _ in known for point in some]
    first, last = min([0.0, *(x for x, _ in points)]), max([float(exported), 1.0, *(x for x, _ in points)])
    marks = ticks(min([0.0, *(y for _, y in points)]), max([0.0, *(y for _, y in points)]))

    def across(x: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * (x - first) / (last - first)

    def up(y: float) -> float:
        return _TOP + (_HEIGHT - _TOP - _BOTTOM) * (marks[-1] - y) / (marks[-1] - marks[0])

    parts = [f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#fff"/>']
    for value in marks:
        parts.append(
            f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{up(value):.1f}" y2="{up(value):.1f}" stroke="#d4d8de"/>'
        )
        parts.append(_letters(_LEFT - 8, up(value) + 4, tick_text(value, marks), "end"))
    for value in inner_ticks(first, last):
        parts.append(_letters(across(value), _HEIGHT - _BOTTOM + 20, f"{value:,.0f}", "middle"))
    parts.append(_letters(_WIDTH - _RIGHT, _HEIGHT - 6, "step", "end"))
    parts.append(
        f'<line x1="{across(exported):.1f}" x2="{across(exported):.1f}" y1="{_TOP}" y2="{_HEIGHT - _BOTTOM}" '
        'stroke="#555c66" stroke-dasharray="3 4"/>'
    )
    key = _LEFT
    for colour, (name, some, dotted) in zip(_COLOURS, series, strict=True):
        if not some:
            continue
        drawn = " ".join(f"{across(x):.1f},{up(y):.1f}" for x, y in some)
        parts.append(f'<polyline points="{drawn}" fill="none" stroke="{colour}" stroke-width="2"/>')
        if dotted or len(some) == 1:
            parts += [f'<circle cx="{across(x):.1f}" cy="{up(y):.1f}" r="4" fill="{colour}"/>' for x, y in some]
        words = f"{name}: {figure(some[-1][1])}"
        parts.append(f'<rect x="{key}" y="10" width="18" height="4" fill="{colour}"/>')
        parts.append(_letters(key + 24, 16, words, "start"))
        key += 40 + 7 * len(words)
    told = "; ".join(f"{name}: {figure(some[0][1])} at first, {figure(some[-1][1])} at last" for name, some, _ in known)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{_HEIGHT}" '
        f'viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif" font-size="12" role="img">'
        f"<title>Reward over the steps. {escaped(told or 'No figures.')}</title>{''.join(parts)}</svg>\n"
    )


def _letters(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="#333940">{escaped(text)}</text>'
