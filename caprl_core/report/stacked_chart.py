"""A chart of parts of a whole over steps: one stack of rectangles a stretch, as inline SVG."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from caprl_core.report.axes import figure, tick_text, ticks
from caprl_core.report.markup import Html, escaped
from caprl_core.report.plot_frame import ABOVE, COLOURS, frame, joined_chart, key_entry


@dataclass(frozen=True, slots=True)
class Stack:
    """The parts (0 or more each) of the steps from `first` to `last`, both counted in."""

    first: float
    last: float
    parts: tuple[float, ...]


def stacked_chart(
    title: str,
    names: Sequence[str],
    stacks: Sequence[Stack],
    *,
    unit: str = "",
    x_name: str = "step",
    height: int = 190,
) -> Html:
    """The chart with its key, the first name at the bottom; the text alternative tells each part's mean.

    Raises `ValueError` for more names than there are colours, or a stack with another number of parts.
    """
    if len(names) > len(COLOURS) or any(len(stack.parts) != len(names) for stack in stacks):
        raise ValueError(f"{len(names)} names: {len(COLOURS)} at most, and a part for each in every stack")
    start = min((stack.first for stack in stacks), default=1.0)
    end = max((stack.last for stack in stacks), default=1.0) + 1
    marks = ticks(0.0, max((math.fsum(stack.parts) for stack in stacks), default=1.0))
    span = (start - 0.5, end - 0.5)  # a step's name stands under the middle of its rectangle
    parts = frame(marks, span, height, x_name, axis_text=lambda value: tick_text(value, marks))
    for stack in stacks:
        steps = f"{stack.first:,.0f}" if stack.first == stack.last else f"{stack.first:,.0f} to {stack.last:,.0f}"
        said = [f"{x_name} {steps}", *(f"{n}: {figure(v)}" for n, v in zip(names, stack.parts, strict=True))]
        x, width = 100 * (stack.first - start) / (end - start), 100 * (stack.last + 1 - stack.first) / (end - start)
        parts.append(f"<g><title>{escaped(chr(10).join(said))}</title>")
        floor = float(ABOVE + height)
        for place, value in enumerate(stack.parts):
            size = height * value / marks[-1]
            floor -= size
            parts.append(
                f'<rect x="{x:.3f}%" y="{floor:.2f}" width="{width:.3f}%" height="{size:.2f}" '
                f'style="fill:{COLOURS[place]};stroke:var(--ground,#fff);stroke-width:{1 if len(stacks) < 80 else 0}"/>'
            )
        parts.append("</g>")
    means = [math.fsum(stack.parts[place] for stack in stacks) / max(1, len(stacks)) for place in range(len(names))]
    told = "; ".join(f"{name}: {figure(mean)} on average" for name, mean in zip(names, means, strict=True))
    entries = [
        key_entry(f'<rect x="4" width="16" height="12" style="fill:{COLOURS[place]}"/>', name)
        for place, name in enumerate(names)
    ]
    key = f'<ul class="key">{"".join(entries)}</ul>'
    return joined_chart(title, told=told if stacks else "", unit=unit, height=height, parts=parts, key=key)
