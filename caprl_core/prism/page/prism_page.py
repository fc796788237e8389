"""The page of a run: what its captions are worth, how sure that is, and answers to look at."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from caprl_core.prism.page.browser import browser_parts, browser_style
from caprl_core.prism.page.examples import Example
from caprl_core.prism.page.score_sections import best_of_parts, caption_parts, score_parts
from caprl_core.prism.results.run_files import RESULT, SCORES_FILE
from caprl_core.prism.results.run_result import Estimate, RunResult
from caprl_core.prism.results.tables import percent
from caprl_core.report.charts import NOTHING, number
from caprl_core.report.markup import Html, clipped, escaped
from caprl_core.report.page import Headline, Section, headline, page, pairs, paragraph

_NAME: Final = 100
_VALUE: Final = 600  # characters of an entry of the provenance
_LOOKS: Final = """
.banner { background: var(--panel); border: 1px solid var(--bad); border-left-width: 6px; border-radius: .5rem;
  padding: .5rem 1rem; margin: 1rem 0; }
.chart text { font-variant-numeric: tabular-nums; }
"""


def prism_page(result: RunResult, examples: Sequence[Example]) -> bytes:
    """One HTML file of some MB at most; the same bytes for the same arguments."""
    return page(
        f"Prism: {clipped(result.captions.name, _NAME)}",
        [_introduction(result), paragraph(_line(result), quiet=True), *_unfinished(result), _headline(result)],
        [
            Section("scores", "Scores", score_parts(result)),
            Section("best-of", "Best of several captions", best_of_parts(result)),
            Section("captions", "Captions and judging", caption_parts(result)),
            Section("examples", "Examples", browser_parts(examples)),
            Section("provenance", "How this was measured", [pairs(_provenance(result)), _method(result)]),
        ],
        _LOOKS + browser_style(examples),
    )


def _introduction(result: RunResult) -> Html:
    judge = clipped(str(result.judge.model.get("name", NOTHING)), _NAME)
    whose = "Captions of a file" if result.captions.kind == "file" else "A captioner's captions"
    return paragraph(
        f"{whose}, and what they are worth to somebody who cannot see: {judge} answered the questions of"
        f" {len(result.benchmarks)} benchmarks from one caption at a time, without the picture. The more of them are"
        " right, the more of the picture the caption tells."
    )


def _line(result: RunResult) -> str:
    """Where the figures come from, in a line."""
    judge = result.judge
    prompts = " and ".join(dict.fromkeys(str(one.get("id", NOTHING)) for one in (judge.prompt, judge.open_prompt)))
    temperature = judge.sampling.get("temperature", NOTHING)
    return clipped(
        f"Run {result.run}, result {result.id}, judged until {result.judged} by"
        f" {judge.model.get('name', NOTHING)} ({', '.join(judge.engines) or 'no engine'}; prompts {prompts};"
        f" temperature {temperature}).",
        _VALUE,
    )


def _unfinished(result: RunResult) -> list[Html]:
    if not result.partial:
        return []
    pending = sum(one.images.pending for one in result.benchmarks)
    return [
        Html(
            f'<div class="banner"><p><strong>Not finished:</strong> {escaped(number(pending))} images are still to be'
            " judged. The figures will change.</p></div>"
        )
    ]


def _headline(result: RunResult) -> Html:
    macro = result.macro
    answers = sum(one.answers for one in result.benchmarks)
    unparsed = sum((one.unparsed or 0.0) * one.answers for one in result.benchmarks)
    figures = [
        Headline("Mean score", _value(macro.mean), f"of 100; {_interval(macro.mean)}"),
        Headline("Best of all captions", _value(macro.best), f"of 100; {_interval(macro.best)}"),
    ]
    if macro.released_mean is not None:
        note = f"as the released script scores; {_interval(macro.released_mean)}"
        figures.append(Headline("Released mean", _value(macro.released_mean), note))
    figures += [
        Headline("Answers", number(answers), f"to {number(sum(one.questions for one in result.benchmarks))} questions"),
        Headline("No answer found", percent(unparsed / answers if answers else None), "of the judge's replies"),
    ]
    return headline(figures)


def _value(estimate: Estimate | None) -> str:
    return NOTHING if estimate is None else f"{100 * estimate.value:.1f}"


def _interval(estimate: Estimate | None) -> str:
    if estimate is None or estimate.low is None or estimate.high is None:
        return "no interval from so few images"
    return f"interval {100 * estimate.low:.1f} to {100 * estimate.high:.1f}"


def _provenance(result: RunResult) -> dict[str, str]:
    captions, judge = result.captions, result.judge
    entries = {"Run": f"{result.run}, result {result.id}", "Judged until": result.judged}
    if captions.captioner is not None:
        entries |= _asked("Captioner", captions.captioner)
        entries["Captions of an image"] = str(captions.captioner.get("captions", NOTHING))
        entries["Captioner's engine"] = ", ".join(captions.engines) or NOTHING
    else:
        entries["Captions"] = captions.name
        entries["Captions' file"] = captions.file or NOTHING
        entries["Captions' sha256"] = captions.file_sha256 or "not read: the file is gone"
    entries |= _asked("Judge", judge.model_dump(mode="json"))
    entries["Judge's prompt for open questions"] = _prompt(judge.open_prompt)
    entries["Way to abstain"] = judge.abstain or "none offered"
    entries["Judge's engine"] = ", ".join(judge.engines) or NOTHING
    for stage, fingerprint in result.datasets.items():
        entries[f"Dataset of the stage {stage}"] = fingerprint
    entries["Files beside this page"] = f"{RESULT}, {SCORES_FILE} (one row an answer)"
    return {clipped(name, 80): clipped(value, _VALUE) for name, value in entries.items()}


def _asked(who: str, fields: Mapping[str, Any]) -> dict[str, str]:
    model = fields.get("model") or {}
    revision = model.get("revision")
    name = f"{model.get('name', NOTHING)} @ {revision}" if revision else f"{model.get('name', NOTHING)} (no revision)"
    sampling = ", ".join(f"{key} {value}" for key, value in (fields.get("sampling") or {}).items())
    return {who: name, f"{who}'s prompt": _prompt(fields.get("prompt") or {}), f"{who}'s sampling": sampling}


def _prompt(prompt: Mapping[str, Any]) -> str:
    return f"{prompt.get('id', NOTHING)}: {prompt.get('text', '')}"


def _method(result: RunResult) -> Html:
    rules = result.intervals
    return paragraph(
        f"Intervals hold the true value with {100 * rules.level:g} % confidence: {rules.draws:,} bootstrap draws of"
        " whole images, studentised on the arcsine scale. The mean is over questions, each with the mean of its"
        " captions' answers; the macro average is the plain mean over benchmarks.",
        quiet=True,
    )
