"""Chapter 6: what each dataset is worth to somebody who has its captions alone, and whether they are true."""

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

from caprl_core.qa.question import LETTERS, Question, question_id
from caprl_core.qa.rotation import EXTRA, order_of
from caprl_core.reward.questions import read_questions
from caprl_core.training.page.watched import Asked
from caprl_core.world.demo.commands import Commands
from caprl_core.world.demo.drawing import ASKED_SEED
from caprl_core.world.demo.files import ERAS, DemoFolder, Era, Sizes
from caprl_core.world.demo.terminal import Terminal
from caprl_core.world.judging import CaptionFigures, caption_figures
from caprl_core.world.question_set import drawn_scenes


@dataclass(frozen=True, slots=True)
class JudgedCaption:
    """A caption of a dataset, the reader's accuracy from it, and every question with the reader's answer."""

    text: str
    tokens: int | None
    accuracy: float
    asked: tuple[Asked, ...]


@dataclass(frozen=True, slots=True)
class Judged:
    """A dataset. Means over all `pictures`: one without a caption answers nothing.

    reader:    share of questions that the tiny reader answers right, a picture.
    abstained: share of questions it would not answer, of those it was asked.
    figures:   what rules find in the captions, an empty one standing for a missing one.
    captions:  by key of the picture; those that are missing are not in it.
    """

    pictures: int
    reader: float
    abstained: float
    figures: CaptionFigures
    captions: Mapping[str, JudgedCaption]

    def as_json(self) -> dict[str, Any]:
        """The figures."""
        return {
            "pictures": self.pictures,
            "captioned": len(self.captions),
            "reader": round(self.reader, 4),
            "abstained": round(self.abstained, 4),
            **self.figures.as_json(),
        }


class Gain(NamedTuple):
    """What the reader answers more after than before, a picture, and the standard error of that over pictures."""

    mean: float
    error: float


class Row(NamedTuple):
    """A line of the table: what it measures, what that means, its value before and after, both if they are shares."""

    name: str
    meaning: str
    before: str
    after: str
    shares: tuple[float, float] | None = None


def score(recipe: Path, folder: DemoFolder, sizes: Sizes, commands: Commands, terminal: Terminal) -> dict[Era, Judged]:
    """Score both datasets from their exported captions, and show the table. Raises `DemoError`."""
    for era in ERAS:
        words = ("--questions", folder.asked, "--captions", folder.captions(era), "--out", folder.scores(era))
        commands.run("reward", recipe, *words)
    found = {era: judged(folder, era, sizes.captioned) for era in ERAS}
    rows = [(row.name, row.before, row.after) for row in table_rows(found)]
    pictures = f"{sizes.captioned} pictures that nothing was trained on or chosen by"
    terminal.table(f"The two datasets, on {pictures}", ("", *ERAS), rows)
    return found


def judged(folder: DemoFolder, era: Era, pictures: int) -> Judged:
    """From the exported captions and their scores; rows of files that are no drawn picture do not count."""
    scenes = drawn_scenes("held_out", pictures, ASKED_SEED)
    questions = read_questions(str(folder.asked))
    captions: dict[str, JudgedCaption] = {}
    outcomes: list[str] = []
    rows = zip(_lines(folder.captions(era)), _lines(folder.scores(era)), strict=True)
    for row, scored in rows:
        key = questions.key_of(row["image"])
        if key is None:
            continue
        asked = _asked(key, questions[key], scored["draws"])
        outcomes += [one.outcome for one in asked]
        captions[key] = JudgedCaption(row["caption"], row["completion_tokens"], scored["accuracy"] or 0.0, asked)
    return Judged(
        pictures=pictures,
        reader=sum(caption.accuracy for caption in captions.values()) / pictures,
        abstained=outcomes.count("abstained") / max(1, len(outcomes)),
        figures=caption_figures({key: captions[key].text if key in captions else "" for key in scenes}, scenes),
        captions=captions,
    )


def gain(found: Mapping[Era, Judged]) -> Gain:
    """From the differences on each picture; the error of a single picture is unknown, and 0."""
    keys = {key for one in found.values() for key in one.captions}
    by_picture = [
        math.fsum(sign * _accuracy(found[era], key) for era, sign in zip(ERAS, (-1, 1), strict=True)) for key in keys
    ]
    by_picture += [0.0] * (found["after"].pictures - len(keys))
    spread = statistics.stdev(by_picture) if len(by_picture) > 1 else 0.0
    return Gain(math.fsum(by_picture) / len(by_picture), spread / math.sqrt(len(by_picture)))


def _accuracy(one: Judged, key: str) -> float:
    return one.captions[key].accuracy if key in one.captions else 0.0


def table_rows(found: Mapping[Era, Judged]) -> list[Row]:
    """What is compared, the most telling first."""
    before, after = (found[era] for era in ERAS)
    return [
        _shares(
            "questions answered, tiny reader",
            "Share of all true questions about a picture that the reader which also gave the reward answers right from"
            " its caption alone.",
            (before.reader, after.reader),
        ),
        *(
            _shares(name, meaning, (getattr(before.figures, field), getattr(after.figures, field)))
            for field, (name, meaning) in _FIGURES.items()
        ),
        Row("words of a caption", "On average.", f"{before.figures.words:.1f}", f"{after.figures.words:.1f}"),
        Row(
            "pictures with a caption",
            "The others count as captions that say nothing.",
            _captioned(before),
            _captioned(after),
        ),
    ]


_FIGURES: Final = {
    "strict": (
        "questions answered, rule reader",
        "The same by a reader made of rules, which no captioner can learn to please.",
    ),
    "true": ("stated facts that are true", "Of all facts that the captions state."),
    "grammatical": ("grammatical captions", "One sentence of the world, which names no shape twice."),
    "recall": ("facts of a picture that are stated", "Shapes, colours, places and their number."),
    "things": ("shapes of a picture that are named", "Whatever else is said of them."),
}
"""Fields of `CaptionFigures` that are shares, with a name and a meaning."""


def _shares(name: str, meaning: str, shares: tuple[float, float]) -> Row:
    return Row(name, meaning, f"{shares[0]:.3f}", f"{shares[1]:.3f}", shares)


def _captioned(one: Judged) -> str:
    return f"{len(one.captions)} of {one.pictures}"


def _asked(key: str, questions: Sequence[Question], draws: Sequence[Mapping[str, Any]]) -> tuple[Asked, ...]:
    by_id = {question_id(key, question): question for question in questions}
    return tuple(_answer(by_id[draw["question_id"]], draw) for draw in draws)


def _answer(question: Question, draw: Mapping[str, Any]) -> Asked:
    return Asked(
        question=draw["question_id"],
        stem=question.stem,
        right=question.gold_text,
        said=_said(question, draw["order"], draw["letter"]),
        outcome=draw["outcome"],
        reply=draw["reply"],
    )


def _said(question: Question, order: str, letter: str | None) -> str | None:
    """The option that the letter named as the question was shown; None for the further one."""
    shown = order_of(order)
    place = LETTERS.find(letter) if letter else -1
    chosen = shown[place] if 0 <= place < len(shown) else EXTRA
    return None if chosen == EXTRA else question.options[chosen]


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
