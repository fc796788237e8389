"""The curves of a run as charts: reward, captions, answers, optimiser, and where the time goes."""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from caprl_core.report.axes import figure
from caprl_core.report.charts import share
from caprl_core.report.line_chart import Line, Marked, Point, line_chart
from caprl_core.report.markup import Html, escaped, joined
from caprl_core.report.page import Column, beside, named, paragraph, table_of
from caprl_core.report.stacked_chart import Stack, stacked_chart
from caprl_core.training.page.run_files import RunFiles, best_evaluation, column, number

_SMOOTHED: Final = 20  # a mean reaches over so many-th of the run, so that its course is seen at a glance
_CALMED: Final = 150  # where there are several lines, a mean over so many-th of a long run keeps them apart
_STACKS: Final = 60  # stretches of the time chart at most
PHASES: Final = {"rollout_s": "rollout", "reader_s": "reader", "update_s": "update", "rest_s": "rest"}
"""Columns of `metrics.jsonl` that make up a step, with their names in the order they happen."""
_PHASE_WORDS: Final = {
    "rollout": "The policy writes captions.",
    "reader": "The reader answers the questions from them.",
    "update": "The policy learns.",
    "rest": "All else of a step: loading, probabilities of the start.",
    "all": "",
}


class _Panel(NamedTuple):
    """A chart of columns of `metrics.jsonl`. held_out: a column of `held_out.jsonl` drawn with them."""

    title: str
    columns: Mapping[str, str]
    caption: str
    unit: str = ""
    held_out: str | None = None
    percent: bool = False
    smooth: bool = True


_CAPTIONS: Final = (
    _Panel(
        "Length of captions",
        {"length_mean": "mean", "length_max": "longest"},
        "Tokens of a caption. A reward can often be had by talking more: watch it beside the reward.",
        "tokens",
        held_out="length_mean",
    ),
    _Panel(
        "Captions that went wrong",
        {"truncated": "cut at the limit", "repetitive": "repetitive", "no_reward": "without a reward"},
        "Share of the captions of a step.",
        percent=True,
    ),
    _Panel(
        "Questions without an answer",
        {"abstained": "abstained", "unread": "unreadable", "failed": "failed"},
        "Abstained and unreadable: share of the answered draws. Failed: share of all draws.",
        percent=True,
    ),
    _Panel(
        "Spread of the reward",
        {"reward_std": "standard deviation"},
        "Of the rewards of a step. At 0 all captions earn the same, and there is nothing to learn from.",
    ),
)
_OPTIMISER: Final = (
    _Panel("KL to the starting policy", {"kl": "KL"}, "How far the policy has moved, a token.", "nats"),
    _Panel("Entropy", {"entropy": "entropy"}, "Of the next token; near 0 the policy has stopped trying.", "nats"),
    _Panel("Learning rate", {"learning_rate": "learning rate"}, "As the schedule had it at the step.", smooth=False),
    _Panel("Gradient norm", {"grad_norm": "norm"}, "Before clipping."),
)


def reward_parts(run: RunFiles) -> list[Html]:
    """The reward of each step, smoothed, and of the held-out pictures."""
    steps, held_out = column(run.steps, "reward"), column(run.evaluations, "reward")
    second = column(run.evaluations, "second_reward")
    lines = [*_smoothed("training", steps), Line("held out", held_out, "dots")]
    if second:
        lines.append(Line("held out, second reader", second, "dots"))
    best = best_evaluation(run.evaluations)
    marked = None
    if best is not None and (reward := number(best, "reward")) is not None:
        marked = Marked((best["step"], reward), f"best {figure(reward)}")
    window = _window(len(steps))
    smoothing = f" Thick line: mean over {window} steps around each." if window > 1 else ""
    return [
        _figure(
            "Reward",
            line_chart("Reward", lines, span=_span(run), height=260, marked=marked),
            "Training: mean reward of a step's captions, on pictures the policy learns from. Held out: greedy captions"
            f" of pictures it never learns from.{smoothing}",
            wide=True,
        )
    ]


def caption_parts(run: RunFiles) -> list[Html]:
    """Lengths, captions gone wrong, questions without an answer."""
    return [_grid(run, _CAPTIONS)]


def optimiser_parts(run: RunFiles) -> list[Html]:
    """KL, entropy, learning rate, gradient norm."""
    return [_grid(run, _OPTIMISER)]


def time_parts(run: RunFiles) -> list[Html]:
    """Seconds a step by phase, drawn over the run and summed up."""
    timed = [line for line in run.steps if any(number(line, name) is not None for name in PHASES)]
    if not timed:
        return [paragraph("No step has told its time yet.")]
    stacks = []
    count = min(_STACKS, len(timed))
    for place in range(count):
        some = timed[place * len(timed) // count : (place + 1) * len(timed) // count]
        parts = tuple(math.fsum(_seconds(line, name) for line in some) / len(some) for name in PHASES)
        stacks.append(Stack(some[0]["step"], some[-1]["step"], parts))
    totals = {phase: math.fsum(_seconds(line, name) for line in timed) for name, phase in PHASES.items()}
    whole = math.fsum(totals.values())
    rows = []
    for phase, total in [*totals.items(), ("all", whole)]:
        figures = (figure(total / len(timed)), duration(total), share(total, whole))
        rows.append([named(phase.capitalize(), _PHASE_WORDS[phase]), *map(escaped, figures)])
    columns = (
        Column("Phase"),
        Column("s a step", True),
        Column("Total", True),
        Column("Share", True),
    )
    each = "a step" if count == len(timed) else f"{math.ceil(len(timed) / count)} steps at most, their mean"
    return [
        beside(
            stacked_chart("Seconds a step by phase", list(PHASES.values()), stacks, unit="seconds"),
            f"Seconds a step, without evaluations and checkpoints. One column: {each}.",
            table_of("Where the time of a step goes", columns, rows, [len(rows) - 1]),
        )
    ]


def duration(seconds: float) -> str:
    """As people say it: 4.2 s, 12 min 5 s, 3 h 20 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60:,} h {minutes % 60} min"


def rolling_mean(points: Sequence[Point], window: int) -> list[Point]:
    """The mean over `window` (odd) points around each; at the ends over those that there are."""
    sums = list(itertools.accumulate((y for _, y in points), initial=0.0))
    found = []
    for place, (x, _) in enumerate(points):
        first, last = max(0, place - window // 2), min(len(points), place + window // 2 + 1)
        found.append((x, (sums[last] - sums[first]) / (last - first)))
    return found


def _window(count: int, part: int = _SMOOTHED) -> int:
    """An odd number of points, about one `part`-th of them."""
    return 2 * round(count / part / 2) + 1


def _smoothed(name: str, points: Sequence[Point]) -> list[Line]:
    window = _window(len(points))
    if window == 1:
        return [Line(name, points)]
    return [Line(f"{name}, each step", points, "faint"), Line(name, rolling_mean(points, window))]


def _grid(run: RunFiles, panels: Sequence[_Panel]) -> Html:
    return Html(f'<div class="panels">{joined(_panel(run, one) for one in panels)}</div>')


def _panel(run: RunFiles, panel: _Panel) -> Html:
    lines: list[Line] = []
    window = 1
    for name, words in panel.columns.items():
        points = column(run.steps, name)
        if not panel.smooth:
            lines.append(Line(words, points))
        elif len(panel.columns) == 1:
            lines += _smoothed(words, points)
        else:
            window = _window(len(points), _CALMED)
            lines.append(Line(words, rolling_mean(points, window)))
    if panel.held_out is not None:
        lines.append(Line("held out, mean", column(run.evaluations, panel.held_out), "dots"))
    if panel.percent:
        lines = [Line(line.name, [(x, 100 * y) for x, y in line.points], line.look) for line in lines]
        chart = line_chart(panel.title, lines, span=_span(run), unit="per cent", around=(0.0, 5.0), text=_percent)
    else:
        chart = line_chart(panel.title, lines, span=_span(run), unit=panel.unit)
    over = f" Lines: means over {window} steps around each." if window > 1 else ""
    return _figure(panel.title, chart, panel.caption + over)


def _figure(title: str, chart: Html, caption: str, *, wide: bool = False) -> Html:
    kind = "panel wide" if wide else "panel"
    head = "" if wide else f"<h3>{escaped(title)}</h3>"
    return Html(f'<figure class="{kind}">{head}{chart}<figcaption>{escaped(caption)}</figcaption></figure>')


def _percent(value: float) -> str:
    if value == round(value):
        return f"{value:.0f} %"
    return "< 0.1 %" if 0 < value < 0.1 else f"{value:.1f} %"


def _span(run: RunFiles) -> tuple[float, float]:
    """First and last step of anything, the same for all charts."""
    steps = [line["step"] for some in (run.steps, run.evaluations) for line in (*some[:1], *some[-1:])]
    return (min(steps), max(steps)) if steps else (0.0, 1.0)


def _seconds(line: Mapping[str, Any], name: str) -> float:
    return max(0.0, number(line, name) or 0.0)
