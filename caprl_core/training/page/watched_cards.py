"""The same pictures over time: a table a picture, its captions side by side and below them every question asked."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from caprl_core.qa.page.thumbnails import Thumbnail, thumbnail
from caprl_core.report.axes import figure
from caprl_core.report.markup import Html, clipped, escaped, isolated, joined
from caprl_core.report.page import picture
from caprl_core.training.page.new_words import with_new_words
from caprl_core.training.page.watched import Asked, WatchedCaption, WatchedPicture

# Characters of hostile text that the page shows at most.
_CAPTION: Final = 4000  # a thousand tokens of English
_COMPARED: Final = 8000  # of the caption before
_STEM: Final = 300
_OPTION: Final = 100
_REPLY: Final = 60
_KEY: Final = 80
MOST_QUESTIONS: Final = 20
"""Questions of a picture that are shown."""
_LONG: Final = 420  # characters of a caption that is given a window of its own to scroll in
_LARGEST_FILE: Final = 2**26  # bytes of a picture file
_SMALL_SIDE: Final = 160  # pixels; pictures up to this size are shown enlarged, pixel by pixel

_CHANGES: Final = ("newly won", "lost again", "still lost", "still won", "not asked twice")
_NO_REWARD: Final = {"no_questions": "no questions", "too_few_answers": "too few answers"}


@dataclass(frozen=True, slots=True)
class _Score:
    """A question at a checkpoint. won: right of its answered draws; None where none was answered."""

    right: int
    answered: int
    asked: int
    losses: tuple[str, ...]

    @property
    def won(self) -> bool | None:
        return self.right == self.answered if self.answered else None


def watched_card(place: int, shown: WatchedPicture, steps: Sequence[int], names: Mapping[int, str]) -> Html:
    """An article with its own heading. `names` says what some of the steps are, such as "best"."""
    questions = _questions(shown, steps)
    heading = f"picture-{place}"
    summary = escaped(_summary(shown, [scores for _, scores in questions]))
    key = clipped(shown.key, _KEY)
    label = escaped(f"Captions of picture {key} at {len(steps)} checkpoints and the questions asked about each")
    head = "".join(
        f'<th role="columnheader" scope="col">{_step(step, names)}{_earned(shown.captions.get(step))}</th>'
        for step in steps
    )
    captions = "".join(
        _caption_cell(shown, step, None if not at else shown.captions.get(steps[at - 1]), names)
        for at, step in enumerate(steps)
    )
    compared = [(asked, scores) for asked, scores in questions if not _always_won(scores, steps)]
    rows = [_question_row(asked, scores, steps) for asked, scores in compared[:MOST_QUESTIONS]]
    return Html(
        f'<article class="watched" aria-labelledby="{heading}">'
        f'<h3 id="{heading}">{place}. {isolated(key)} <small>{summary}</small></h3>'
        f'<table class="checkpoints" role="table" aria-label="{label}"><thead role="rowgroup"><tr role="row">'
        f'<td role="cell"></td>{head}</tr></thead><tbody role="rowgroup">'
        f'<tr role="row" class="captions"><th role="rowheader" scope="row">{_picture(shown)}</th>{captions}</tr>'
        f"{joined(rows)}</tbody></table>{_left_out(questions, steps, len(compared) - len(rows))}</article>"
    )


def _step(step: int, names: Mapping[int, str]) -> Html:
    name = f' <span class="badge good">{escaped(names[step])}</span>' if step in names else ""
    return Html(f"Step {step:,}{name}")


def _earned(caption: WatchedCaption | None) -> Html:
    """Reward, questions won and length, in a line below the step."""
    if caption is None:
        return Html("<small>no caption</small>")
    if caption.reward is None:
        why = _NO_REWARD.get(caption.reason or "", caption.reason or "")
        parts = [f"no reward: {clipped(why, _OPTION)}" if why else "no reward"]
    else:
        parts = [f"reward {figure(caption.reward)}"]
    answered = [draw for draw in caption.draws if draw.outcome != "failed"]
    if answered:
        parts.append(f"{sum(draw.outcome == 'right' for draw in answered)} of {len(answered)} right")
    if caption.tokens is not None:
        parts.append(f"{figure(caption.tokens)} tokens")
    if caption.truncated:
        parts.append("cut at the limit")
    return Html(f"<small>{isolated(' · '.join(parts))}</small>")


def _caption_cell(shown: WatchedPicture, step: int, before: WatchedCaption | None, names: Mapping[int, str]) -> Html:
    caption = shown.captions.get(step)
    # On a narrow screen the heads of the columns are gone, so each caption repeats its own.
    head = f'<div class="own-head" aria-hidden="true">{_step(step, names)}{_earned(caption)}</div>'
    if caption is None:
        return Html(f'<td role="cell">{head}<p class="quiet">not captioned</p></td>')
    text = caption.text[:_CAPTION]
    if not text.strip():
        return Html(f'<td role="cell">{head}<p class="quiet">(empty caption)</p></td>')
    words = with_new_words(text, None if before is None else before.text[:_COMPARED])
    rest = len(caption.text) - len(text)
    more = f' <span class="quiet">… ({rest:,} more characters)</span>' if rest else ""
    window = ""
    if len(text) > _LONG:
        window = f' tabindex="0" role="group" aria-label="{escaped(f"Caption at step {step}")}"'
    return Html(f'<td role="cell">{head}<div class="words" dir="auto"{window}>{words}{more}</div></td>')


def _questions(shown: WatchedPicture, steps: Sequence[int]) -> list[tuple[Asked, dict[int, _Score]]]:
    """Every question with its score by step: newly won ones first, then those lost again, still lost, still won."""
    asked: dict[str, Asked] = {}
    draws: dict[str, dict[int, list[Asked]]] = {}
    for step in steps:
        for draw in shown.captions[step].draws if step in shown.captions else ():
            asked.setdefault(draw.question, draw)
            draws.setdefault(draw.question, {}).setdefault(step, []).append(draw)
    found = [(asked[name], {step: _score(some) for step, some in by_step.items()}) for name, by_step in draws.items()]
    return sorted(found, key=lambda one: _change(one[1]))


def _always_won(scores: Mapping[int, _Score], steps: Sequence[int]) -> bool:
    return len(steps) > 1 and all(step in scores and scores[step].won for step in steps)


def _left_out(questions: Sequence[tuple[Asked, Mapping[int, _Score]]], steps: Sequence[int], hidden: int) -> Html:
    """The questions that tell nothing about the checkpoints, in a line, and how many more there are."""
    always = [asked for asked, scores in questions if _always_won(scores, steps)]
    parts = []
    if always:
        told = joined((_with_answer(asked) for asked in always[:MOST_QUESTIONS]), "; ")
        sign = '<span class="won" aria-hidden="true">✓</span>'
        parts.append(f'<p class="always">{sign} Won at every one of these checkpoints ({len(always)}): {told}</p>')
    if hidden > 0:
        parts.append(f'<p class="quiet">{hidden} more questions are not shown.</p>')
    return Html("".join(parts))


def _with_answer(asked: Asked) -> Html:
    right = "" if asked.right is None else f" ({isolated(clipped(asked.right, _OPTION))})"
    return Html(f"{isolated(clipped(asked.stem, _STEM))}{right}")


def _score(draws: Sequence[Asked]) -> _Score:
    answered = [draw for draw in draws if draw.outcome != "failed"]
    right = sum(draw.outcome == "right" for draw in answered)
    losses = dict.fromkeys(_loss(draw) for draw in answered if draw.outcome != "right")
    return _Score(right, len(answered), len(draws), tuple(losses))


def _loss(draw: Asked) -> str:
    """What the reader said instead of the right answer."""
    if draw.outcome == "abstained":
        return "abstained"
    if draw.outcome == "wrong" and draw.said is not None:
        return f"said {clipped(draw.said, _OPTION)}"
    return f"unreadable: “{clipped(draw.reply, _REPLY)}”" if draw.reply else "no readable answer"


def _change(scores: Mapping[int, _Score]) -> int:
    """First answer against last: 0 newly won, 1 lost again, 2 still lost, 3 still won; 4 answered once at most."""
    known = [score.won for _, score in sorted(scores.items()) if score.won is not None]
    if len(known) < 2:
        return 4
    if known[0] != known[-1]:
        return 0 if known[-1] else 1
    return 3 if known[-1] else 2


def _question_row(asked: Asked, scores: Mapping[int, _Score], steps: Sequence[int]) -> Html:
    right = f"<small>right: {isolated(clipped(asked.right, _OPTION))}</small>" if asked.right is not None else ""
    cells = "".join(_score_cell(step, scores.get(step)) for step in steps)
    stem = isolated(clipped(asked.stem, _STEM))
    return Html(f'<tr role="row" class="asked"><th role="rowheader" scope="row">{stem}{right}</th>{cells}</tr>')


def _score_cell(step: int, score: _Score | None) -> Html:
    """What became of a question at a checkpoint; in words, too, for those who do not see the sign."""
    label = f'<span class="own-head" aria-hidden="true">{step:,}</span> '
    if score is None:
        dash = '<span aria-hidden="true">—</span><span class="spoken">not asked</span>'
        return Html(f'<td role="cell" class="unasked">{label}{dash}</td>')
    if score.won is None:
        return Html(f'<td role="cell" class="unasked">{label}no reply</td>')
    sign = '<span class="sign" aria-hidden="true">{}</span><span class="spoken">{}</span>'
    times = f" {score.right} of {score.answered}" if score.answered > 1 else ""
    if score.won:
        return Html(f'<td role="cell" class="won">{label}{sign.format("✓", "won")}{times}</td>')
    said = joined((isolated(loss) for loss in score.losses), ", ")
    return Html(f'<td role="cell" class="lost">{label}{sign.format("✗", "lost:")}{times} {said}</td>')


def _summary(shown: WatchedPicture, questions: Sequence[Mapping[int, _Score]]) -> str:
    """The first caption against the last, in a line."""
    captions = [caption for _, caption in sorted(shown.captions.items())]
    if len(captions) < 2:
        return ""
    changes = Counter(map(_change, questions))
    counted = ", ".join(f"{changes[change]} {words}" for change, words in enumerate(_CHANGES) if changes[change])
    reward = f"reward {figure(captions[0].reward)} → {figure(captions[-1].reward)}"
    return f"{reward}; questions: {counted}" if counted else reward


def _picture(shown: WatchedPicture) -> Html:
    alt = f"Picture {clipped(shown.key, _KEY)}, which the captions describe"
    try:
        if shown.file.stat().st_size > _LARGEST_FILE:
            return _no_picture(f"a file of more than {_LARGEST_FILE // 2**20} MiB")
        found = thumbnail(shown.file.read_bytes())
    except OSError as error:
        return _no_picture(f"it could not be read: {error.strerror}")
    if not isinstance(found, Thumbnail):
        return _no_picture(found.reason)
    image = picture(found.jpeg, "image/jpeg", alt, found.width, found.height)
    small = " small" if max(found.width, found.height) <= _SMALL_SIDE else ""
    return Html(f'<div class="seen{small}">{image}</div>')


def _no_picture(reason: str) -> Html:
    return Html(f'<div class="placeholder">No picture: {isolated(clipped(reason, 200))}</div>')
