"""What a run is and how far it came, in words and tables: lead, key figures, evaluations, steps, recipe."""

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import yaml

from caprl_core.report.axes import figure
from caprl_core.report.charts import NOTHING, share
from caprl_core.report.markup import Html, clipped, escaped, isolated
from caprl_core.report.page import Column, Headline, disclosure, headline, pairs, paragraph, table, table_of
from caprl_core.training.page.curves import PHASES, duration
from caprl_core.training.page.run_files import RunFiles, best_evaluation, number

# Characters of hostile text that the page shows at most.
_VALUE: Final = 300
_DETAIL: Final = 1000
_RECIPE: Final = 20_000
_EVALUATIONS: Final = 60  # rows of the table of evaluations at most
_STRETCHES: Final = 30  # rows of the table of steps at most
_STOPPED: Final = {
    "collapse": "training had gone wrong",
    "signal": "it was told to, and can be resumed",
}
_NOTHING_YET: Final[Mapping[str, Any]] = {}
_SHARES: Final = frozenset({"truncated", "abstained", "unread", "failed", "no_reward", "repetitive"})
_EVALUATED: Final = {
    "reward": "Reward",
    "second_reward": "Second reader's reward",
    "accuracy": "Accuracy",
    "abstained": "Abstained",
    "unread": "Unreadable",
    "length_mean": "Tokens, mean",
    "truncated": "Cut",
    "captions": "Captions",
}
_STEPPED: Final = {
    "reward": "Reward",
    "reward_std": "Spread of reward",
    "accuracy": "Accuracy",
    "loss": "Loss",
    "kl": "KL",
    "entropy": "Entropy",
    "learning_rate": "Learning rate",
    "grad_norm": "Gradient norm",
    "length_mean": "Tokens, mean",
    "length_max": "Tokens, most",
    "truncated": "Cut",
    "repetitive": "Repetitive",
    "abstained": "Abstained",
    "unread": "Unreadable",
    "failed": "Failed",
    "no_reward": "No reward",
    "step_s": "s a step",
}


def lead_parts(run: RunFiles) -> list[Html]:
    """What was trained on what, how far it is, and why it stopped if it did."""
    best = best_evaluation(run.evaluations)
    policy = _inner(run.about, "policy")
    entries = {
        "Policy": " at revision ".join(_known(policy, "name", "revision")) or "not told",
        "Questions": _set(_inner(run.about, "questions")),
        "Held out": _set(_inner(run.about, "held_out")),
        "Steps": _progress(run),
        "Best held-out step": NOTHING if best is None else f"{best['step']:,}",
    }
    return [*_banner(run), pairs({name: clipped(value, _VALUE) for name, value in entries.items()})]


def key_figures(run: RunFiles) -> Html:
    """Held-out reward before, best and last, and what it cost."""
    best, done = (
        best_evaluation(run.evaluations),
        [line for line in run.evaluations if number(line, "reward") is not None],
    )
    first, last = (done[0], done[-1]) if done else (_NOTHING_YET, _NOTHING_YET)
    second = Headline("Second reader's reward", figure(number(last, "second_reward")), _second(first, last))
    return headline(
        [
            Headline("Held-out reward before", figure(number(first, "reward")), _at(first)),
            Headline("Best held-out reward", figure(number(best or {}, "reward")), _gained(first, best or {})),
            Headline("Last held-out reward", figure(number(last, "reward")), _gained(first, last)),
            *([second] if number(last, "second_reward") is not None else []),
            Headline("Caption length", figure(number(last, "length_mean")), _length(first, last)),
            Headline("Reader abstains", _percent(last, "abstained"), _abstained(first, last)),
            Headline("Time", *_time(run)),
        ]
    )


def evaluation_parts(run: RunFiles) -> list[Html]:
    """Every evaluation of the held-out pictures as a row."""
    if not run.evaluations:
        return [paragraph("The held-out pictures have not been captioned yet.")]
    best = best_evaluation(run.evaluations)
    names = [name for name in _EVALUATED if any(number(line, name) is not None for line in run.evaluations)]
    shown = _spread(run.evaluations, _EVALUATIONS, keep=best)
    rows = []
    for line in shown:
        star = " (best)" if line is best else ""
        rows.append([escaped(f"{line['step']:,}{star}"), *(escaped(_cell(line, name)) for name in names)])
    columns = [Column("Step"), *(Column(_EVALUATED[name], True) for name in names)]
    emphasised = [place for place, line in enumerate(shown) if line is best]
    some = "" if len(shown) == len(run.evaluations) else f", {len(shown)} of {len(run.evaluations):,}"
    caption = f"Evaluations: greedy captions of the held-out pictures{some}"
    return [table_of(caption, columns, rows, emphasised)]


def step_parts(run: RunFiles) -> list[Html]:
    """The figures of the charts, as a table of means over stretches of steps."""
    if not run.steps:
        return []
    names = [name for name in _STEPPED if any(number(line, name) is not None for line in run.steps)]
    count = min(_STRETCHES, len(run.steps))
    rows = []
    for place in range(count):
        some = run.steps[place * len(run.steps) // count : (place + 1) * len(run.steps) // count]
        first, last = some[0]["step"], some[-1]["step"]
        steps = f"{first:,}" if first == last else f"{first:,} to {last:,}"
        means = _means(some, names)
        rows.append([steps, *(_cell(means, name) for name in names)])
    columns = [Column("Steps"), *(Column(_STEPPED[name], True) for name in names)]
    caption = "Training steps" if count == len(run.steps) else "Training steps, means over stretches of the run"
    return [disclosure("The figures behind the curves, as a table", table(caption, columns, rows))]


def recipe_parts(run: RunFiles) -> list[Html]:
    """Where the run comes from, and its recipe as text."""
    about = run.about
    entries = {"Run": _text(about.get("name")), "Fingerprint of the recipe": _text(about.get("fingerprint"))}
    for name, words in (("policy", "Policy"), ("questions", "Questions"), ("held_out", "Held out")):
        for field, value in _inner(about, name).items():
            entries[f"{words}, {field}"] = _text(value)
    entries["Processes"] = _text(about.get("processes"))
    for name, value in _inner(about, "versions").items():
        entries[f"Version of {name}"] = _text(value)
    shown = {clipped(name, 80): clipped(value, _VALUE) for name, value in entries.items() if value}
    parts = [pairs(dict(list(shown.items())[:60]))]
    if recipe := about.get("recipe"):
        text = clipped(yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True, width=100), _RECIPE)
        # The text scrolls, so the keyboard must be able to reach it.
        parts.append(
            Html(
                f'<h3 id="recipe-text">Recipe</h3><pre tabindex="0" aria-labelledby="recipe-text">{escaped(text)}</pre>'
            )
        )
    return parts


def _banner(run: RunFiles) -> list[Html]:
    if run.stopped is None:
        return []
    step, reason = number(run.stopped, "step"), _text(run.stopped.get("reason"))
    where = "" if step is None else f" at step {step:,.0f}"
    why = _STOPPED.get(reason, clipped(reason.replace("_", " "), _VALUE)) or "no reason told"
    detail = clipped(_text(run.stopped.get("detail")), _DETAIL)
    return [
        Html(
            f'<div class="banner"><p><strong>Stopped early{escaped(where)}: {isolated(why)}.</strong></p>'
            f"{paragraph(detail) if detail else ''}</div>"
        )
    ]


def _progress(run: RunFiles) -> str:
    done = run.steps[-1]["step"] if run.steps else 0
    planned = number(_inner(run.about, "recipe"), "steps")
    written = number(run.steps[-1], "at") if run.steps else None
    parts = [f"{done:,} done" if planned is None else f"{done:,} of {planned:,.0f} done"]
    if planned is not None and done < planned and run.stopped is None:
        parts.append("the run had not finished when this page was written")
    if written is not None and 0 < written < 2**36:  # the year 4147: beyond, it is no time at all
        parts.append(f"the last one on {datetime.fromtimestamp(written, UTC):%Y-%m-%d at %H:%M} UTC")
    return "; ".join(parts)


def _set(about: Mapping[str, Any]) -> str:
    if not about:
        return "not told"
    parts = []
    questions, images = number(about, "questions"), number(about, "images")
    if questions is not None and images is not None:
        parts.append(f"{questions:,.0f} questions about {images:,.0f} pictures")
    if digest := _text(about.get("sha256")):
        parts.append(f"fingerprint {digest[:16]}")
    return ", ".join(parts) or "not told"


def _at(line: Mapping[str, Any]) -> str:
    if not line:
        return "no evaluation yet"
    return "before the first step" if line["step"] == 0 else f"at step {line['step']:,}"


def _gained(first: Mapping[str, Any], line: Mapping[str, Any]) -> str:
    before, reward = number(first, "reward"), number(line, "reward")
    if before is None or reward is None:
        return _at(line)
    gain = reward - before
    sign = "+" if gain > 0 else "\u2212" if gain < 0 else "±"
    return f"{_at(line)}, {sign}{figure(abs(gain))}"


def _before(first: Mapping[str, Any], last: Mapping[str, Any], value: str) -> str:
    return "" if first is last else f", {value} before"


def _second(first: Mapping[str, Any], last: Mapping[str, Any]) -> str:
    before = _before(first, last, figure(number(first, "second_reward")))
    return f"at the last evaluation{before}; nothing is learnt from it"


def _length(first: Mapping[str, Any], last: Mapping[str, Any]) -> str:
    if not last:
        return _at(last)
    before = _before(first, last, figure(number(first, "length_mean")))
    return f"tokens, held out{before}; {_percent(last, 'truncated')} cut at the limit"


def _abstained(first: Mapping[str, Any], last: Mapping[str, Any]) -> str:
    if not last:
        return _at(last)
    return f"of the questions, held out{_before(first, last, _percent(first, 'abstained'))}"


def _time(run: RunFiles) -> tuple[str, str]:
    spent = [_step_seconds(line) for line in run.steps]
    known = [value for value in spent if value is not None]
    if not known:
        return NOTHING, "no step has told its time"
    captions = math.fsum(number(line, "captions") or 0.0 for line in run.steps)
    each = f"{figure(math.fsum(known) / len(known))} s a step"
    return duration(math.fsum(known)), f"{each}, {captions:,.0f} captions" if captions else each


def _step_seconds(line: Mapping[str, Any]) -> float | None:
    whole = number(line, "step_s")
    parts = [value for name in PHASES if (value := number(line, name)) is not None]
    return whole if whole is not None else math.fsum(parts) if parts else None


def _percent(line: Mapping[str, Any], name: str) -> str:
    value = number(line, name)
    return NOTHING if value is None else share(value, 1)


def _cell(line: Mapping[str, Any], name: str) -> str:
    return _percent(line, name) if name in _SHARES else figure(number(line, name))


def _means(lines: Sequence[Mapping[str, Any]], names: Sequence[str]) -> dict[str, float]:
    found = {}
    for name in names:
        values = [value for line in lines if (value := number(line, name)) is not None]
        if values:
            found[name] = math.fsum(values) / len(values)
    return found


def _spread(
    lines: Sequence[Mapping[str, Any]], most: int, *, keep: Mapping[str, Any] | None
) -> list[Mapping[str, Any]]:
    """`most` of the lines or a few more, evenly, with the first, the last and the one to keep."""
    if len(lines) <= most:
        return list(lines)
    last = len(lines) - 1
    places = {round(place * last / (most - 1)) for place in range(most)}
    return [line for place, line in enumerate(lines) if place in places or line is keep]


def _inner(values: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = values.get(name)
    return found if isinstance(found, dict) else {}


def _known(values: Mapping[str, Any], *names: str) -> list[str]:
    return [text for name in names if (text := _text(values.get(name)))]


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, list):
        return "; ".join(map(str, value))
    return value if isinstance(value, str) else str(value)
