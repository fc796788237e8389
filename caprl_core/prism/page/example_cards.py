"""One judged answer as a card: picture, caption, question, the judge's answer, the right one and the points."""

from typing import Final

from caprl_core.data.sources.benchmark_forms import LETTERS
from caprl_core.prism.page.choosing import Outcome
from caprl_core.prism.page.examples import Example
from caprl_core.prism.results.scoring import CUT
from caprl_core.qa.page.thumbnails import Thumbnail
from caprl_core.report.axes import figure
from caprl_core.report.markup import Html, clipped, escaped, isolated, joined
from caprl_core.report.page import disclosure, paragraph, picture

# Characters of hostile text that a card shows at most. Each may take eight bytes: 48 of the worst stay below 6 MB.
_CAPTION: Final = 3000
_QUESTION: Final = 600
_OPTION: Final = 160
_ANSWER: Final = 200
_REPLY: Final = 1500
_KEY: Final = 80
_PROBLEM: Final = 200
_ANSWERS: Final = 5  # right answers shown; InfoVQA has up to a dozen spellings
_OPTIONS: Final = 12
_LONG: Final = 420  # characters of a caption that is given a window of its own to scroll in

OUTCOME_WORDS: Final[dict[Outcome, str]] = {
    "right": "Right",
    "partly": "Partly right",
    "wrong": "Wrong",
    "abstained": "Abstained",
    "unparsed": "No answer found",
}
_SIGNS: Final[dict[Outcome, str]] = {"right": "✓", "partly": "±", "wrong": "✗", "abstained": "○", "unparsed": "?"}


def card(place: int, example: Example, classes: str) -> Html:
    """An article with its own heading; `classes` are those that the browser of examples tells it by."""
    answer = example.answer
    good = " good" if answer.outcome == "right" else ""
    heading = f"example-{place}"
    sign = f'<span aria-hidden="true">{_SIGNS[answer.outcome]} </span>'
    details = [
        Html(f'<p class="words">{isolated(clipped(example.question.text, _QUESTION))}</p>'),
        _options(example),
        _answers(example),
        disclosure("The judge's whole reply", _words(example.reply["reply"] or "(empty)", _REPLY)),
        paragraph(f"Sample {clipped(answer.image, _KEY)}, question {clipped(answer.question, _KEY)}.", quiet=True),
    ]
    return Html(
        f'<article class="card{good} {classes}" aria-labelledby="{heading}">'
        f'<h3 id="{heading}">{place}. {isolated(answer.benchmark)} <span class="badge">{sign}'
        f"{escaped(OUTCOME_WORDS[answer.outcome])}</span></h3>"
        f'<div class="split"><div>{_picture(example)}</div><div>{joined(details)}</div></div>{_caption(example)}'
        "</article>"
    )


def _options(example: Example) -> Html:
    """The options in their stored order, the right one and the judge's marked; nothing where they are in the text."""
    question, read = example.question, example.answer.read
    if not question.options:
        return Html("")
    items = []
    for letter, option in list(zip(LETTERS, question.options, strict=False))[:_OPTIONS]:
        right, said = letter in question.answers, letter == read
        marks = [Html('<span class="mark">✓ right</span>')] if right else []
        if said:
            marks.append(Html(f'<span class="{"mark" if right else "badge"}">← the judge</span>'))
        kind = ' class="right"' if right else ""
        text = isolated(clipped(option, _OPTION))
        items.append(Html(f"<li{kind}>{letter}) {joined([text, *marks], ' ')}</li>"))
    return Html(f'<ul class="options">{joined(items)}</ul>')


def _answers(example: Example) -> Html:
    answer, question = example.answer, example.question
    gold = ", ".join(clipped(one, _ANSWER) for one in question.answers[:_ANSWERS])
    if len(question.answers) > _ANSWERS:
        gold += f" and {len(question.answers) - _ANSWERS} more"
    cut = ", reply cut at its limit" if example.reply["finish_reason"] == CUT else ""
    said = Html('<span class="quiet">none found</span>') if answer.read is None else _short(answer.read)
    released = "" if answer.released_points is None else f"; {figure(answer.released_points)} by the released rules"
    entries = [
        ("Judge's answer", Html(said + escaped(cut))),
        ("Right answer", isolated(gold)),
        ("Points", escaped(f"{figure(answer.points)} ({answer.scorer}){released}")),
    ]
    items = "".join(f"<dt>{escaped(name)}</dt><dd>{value}</dd>" for name, value in entries)
    return Html(f'<dl class="said">{items}</dl>')


def _caption(example: Example) -> Html:
    caption = example.caption
    tokens = "" if caption["tokens"] is None else f", {caption['tokens']:,} tokens"
    cut = ", cut at its limit" if caption["finish_reason"] == CUT else ""
    number = f"Caption {example.answer.caption + 1} of {example.captions}"
    told = f"{number}, all that the judge was told{tokens}{cut}"
    return Html(f'<p class="told">{escaped(told)}</p>{_words(caption["text"] or "(empty)", _CAPTION, told)}')


def _words(text: str, most: int, label: str = "Reply") -> Html:
    """Long text scrolls, so the keyboard must be able to reach it."""
    reach = f' tabindex="0" role="group" aria-label="{escaped(label)}"' if len(text) > _LONG else ""
    return Html(f'<div class="words long"{reach}>{isolated(clipped(text, most))}</div>')


def _short(text: str) -> Html:
    return isolated(clipped(text, _ANSWER) or "(empty)")


def _picture(example: Example) -> Html:
    found = example.picture
    if isinstance(found, Thumbnail):
        alt = f"The picture of sample {clipped(example.answer.image, _KEY)}, which the judge never saw"
        return picture(found.jpeg, "image/jpeg", alt, found.width, found.height)
    return Html(f'<div class="placeholder">No picture: {isolated(clipped(found.reason, _PROBLEM))}</div>')
