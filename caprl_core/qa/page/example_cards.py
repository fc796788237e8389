"""One example question of a report page: picture, options, how often each was picked, and what became of it."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

from caprl_core.qa.filter import Evidence
from caprl_core.qa.page.examples import Example
from caprl_core.qa.page.report_words import SPLITS, reason_words
from caprl_core.qa.page.thumbnails import Thumbnail
from caprl_core.qa.question import LETTERS
from caprl_core.report.charts import NOTHING, number, share
from caprl_core.report.markup import Html, clipped, escaped, isolated, joined
from caprl_core.report.page import Column, disclosure, paragraph, picture, table, table_of

# Characters of hostile text that a card shows at most: twenty cards then take some 400 kB, whatever they hold.
_STEM: Final = 400
_OPTION: Final = 120
_REPLY: Final = 80
_KEY: Final = 80
_PROBLEM: Final = 200
_REPLIES: Final = 8  # of each branch

_EXTRA, _UNREAD, _FAILED = "-", "unread", "failed"
_NO_OPTION: Final = {
    _EXTRA: "The further option that is never right",
    _UNREAD: "No letter could be read",
    _FAILED: "Request failed (does not count)",
}


def card(number_on_page: int, example: Example) -> Html:
    """An article with its own heading. The question's fields are those of the answer stage's rows."""
    verdict = example.verdict
    status = "Kept" if verdict.kept else f"Refused: {reason_words(str(verdict.reason)).name}"
    sign = "✓" if verdict.kept else "✗"
    question = example.question
    stem = clipped(str(question["stem"]), _STEM)
    heading = f"example-{number_on_page}"
    details = [
        Html(f'<p class="words">{isolated(stem)}</p>'),
        _options(question),
        _evidence("With the image", verdict.visual),
        _evidence("Without the image", verdict.text),
        paragraph(_outcome(example), quiet=True),
        disclosure("Replies as the model wrote them", *_replies(question)),
    ]
    return Html(
        f'<article class="card{" good" if verdict.kept else ""}" aria-labelledby="{heading}">'
        f'<h3 id="{heading}">{number_on_page}. <span class="badge"><span aria-hidden="true">{sign} </span>'
        f"{escaped(status)}</span></h3>"
        f'<div class="split"><div>{_picture(example)}</div><div>{joined(details)}</div></div></article>'
    )


def votes_by_option(votes: Sequence[Mapping[str, Any]]) -> Counter[str]:
    """How often each stored option was picked: its letter, or `-` (the further option), `unread`, `failed`."""
    return Counter(map(_picked, votes))


def _picked(vote: Mapping[str, Any]) -> str:
    if vote["failure"] is not None:
        return _FAILED
    letter, order = vote["letter"], vote["order"]
    place = LETTERS.find(letter) if letter else -1
    return order[place] if 0 <= place < len(order) else _UNREAD


def _options(question: Mapping[str, Any]) -> Html:
    seen, blind = votes_by_option(question["visual"]), votes_by_option(question["text"])
    rows, right = [], []
    for place, (letter, option) in enumerate(zip(LETTERS, question["options"], strict=False)):
        mark = ""
        if letter == question["answer"]:
            right.append(place)
            mark = ' <span class="mark">✓ right</span>'
        text = Html(f'{letter}) <span class="words">{isolated(clipped(str(option), _OPTION))}</span>{mark}')
        rows.append([text, _count(seen[letter]), _count(blind[letter])])
    for code, words in _NO_OPTION.items():
        if seen[code] or blind[code]:
            rows.append([escaped(words), _count(seen[code]), _count(blind[code])])
    columns = (
        Column("Option, as written"),
        Column("Picked with image", number=True),
        Column("Picked without", number=True),
    )
    return table_of("How often each option was picked", columns, rows, right)


def _count(count: int) -> Html:
    return escaped(str(count))


def _evidence(branch: str, found: Evidence) -> Html:
    if found.accuracy is None:
        return paragraph(f"{branch}: no vote that counts; {number(found.failed)} requests failed.")
    interval = "" if found.low is None or found.high is None else f", interval {found.low:.2f} to {found.high:.2f}"
    failed = f"; {found.failed} more requests failed" if found.failed else ""
    return paragraph(
        f"{branch}: {found.correct} of {found.votes} right (accuracy {found.accuracy:.2f}{interval}){failed}."
    )


def _outcome(example: Example) -> str:
    verdict = example.verdict
    parts = []
    if verdict.reason is not None:
        parts.append(reason_words(str(verdict.reason)).meaning)
    else:
        if verdict.split is not None:
            parts.append(f"Split: {SPLITS.get(verdict.split, verdict.split)}.")
        if 0 <= verdict.place < len(LETTERS):
            parts.append(f"In the curated set the right answer is option {LETTERS[verdict.place]}.")
    if verdict.blind_chance is not None:
        parts.append(f"Chance that a blind guesser passes: {share(verdict.blind_chance, 1)}.")
    parts.append(f"Sample {clipped(example.key, _KEY)}, question {clipped(verdict.id, _KEY)}.")
    return " ".join(parts)


def _replies(question: Mapping[str, Any]) -> list[Html]:
    columns = (Column("Order shown"), Column("Letter read"), Column("Reply"))
    tables = []
    for branch, caption in (("visual", "With the image"), ("text", "Without the image")):
        votes = question[branch]
        rows = [
            (
                clipped(str(vote["order"]), 12),
                clipped(vote["letter"] or NOTHING, 4),
                clipped(f"request failed: {vote['failure']}" if vote["failure"] is not None else _said(vote), _REPLY),
            )
            for vote in votes[:_REPLIES]
        ]
        more = f" (the first {_REPLIES} of {len(votes)})" if len(votes) > _REPLIES else ""
        tables.append(table(caption + more, columns, rows))
    return tables


def _said(vote: Mapping[str, Any]) -> str:
    if vote["gold_p"] is not None:
        return f"probability of the right letter {vote['gold_p']:.3f}"
    return vote["reply"] or "(empty)"


def _picture(example: Example) -> Html:
    found = example.picture
    if isinstance(found, Thumbnail):
        alt = f"The picture of sample {clipped(example.key, _KEY)}, which the question is about"
        return picture(found.jpeg, "image/jpeg", alt, found.width, found.height)
    return Html(f'<div class="placeholder">No picture: {isolated(clipped(found.reason, _PROBLEM))}</div>')
