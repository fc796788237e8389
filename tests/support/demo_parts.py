"""Parts of the demo for tests: small sizes, commands, a terminal that is read."""

import io
import json
import os
from collections.abc import Callable, Mapping
from typing import Any

from rich.console import Console

from caprl_core.qa.question import LETTERS, Question, question_id
from caprl_core.qa.rotation import EXTRA, order_text
from caprl_core.reward.questions import read_questions
from caprl_core.world.demo.commands import Commands
from caprl_core.world.demo.drawing import ASKED_SEED
from caprl_core.world.demo.files import DemoFolder, Era, Sizes
from caprl_core.world.demo.terminal import Terminal
from caprl_core.world.question_set import drawn_scenes
from caprl_core.world.scene import Scene

SMALL = Sizes(curated=12, watched=4, captioned=6, steps=2)


class ReadTerminal(Terminal):
    """What is shown is read back as `text`; on a terminal of its own if `live`."""

    def __init__(self, *, live: bool = False) -> None:
        self._file = io.StringIO()
        super().__init__(Console(file=self._file, width=100, force_terminal=live, highlight=False))

    @property
    def text(self) -> str:
        """Everything shown so far."""
        return self._file.getvalue()


def commands_in(folder: DemoFolder, terminal: Terminal | None = None) -> Commands:
    """Commands of the demo in this process's environment."""
    return Commands({**os.environ, "OMP_NUM_THREADS": "1"}, folder.log, terminal or ReadTerminal())


def scored_dataset(
    folder: DemoFolder,
    era: Era,
    caption: Callable[[str, Scene], str | None],
    answer: Callable[[Question], str | None],
    *,
    others: Mapping[str, str] | None = None,
) -> dict[str, tuple[Question, ...]]:
    """Write the captions and scores of a dataset over the pictures of `folder.asked`, as the commands do.

    caption: of a picture by key and scene, None for one that has none. answer: the option that the reader names, None
    where it abstains. others: captions of further files. Returns the questions of each picture by key.
    """
    bank = read_questions(str(folder.asked))
    scenes = drawn_scenes("held_out", len(bank), ASKED_SEED)
    rows, scores = [], []
    for key, questions in bank.items():
        text = caption(key, scenes[key])
        if text is None:
            continue
        rows.append({"key": f"drawn-{key}", "image": f"{key}.png", "caption": text, "completion_tokens": 9})
        draws = [_draw(key, question, answer(question)) for question in questions]
        share = sum(draw["outcome"] == "right" for draw in draws) / len(draws)
        scores.append({"key": key, "image": f"{key}.png", "accuracy": share, "reward": share, "draws": draws})
    for name, text in (others or {}).items():
        rows.append({"key": f"drawn-{name}", "image": name, "caption": text, "completion_tokens": 9})
        scores.append({"image": name, "reward": None, "accuracy": None, "reason": "no_questions"})
    folder.captions(era).parent.mkdir(parents=True, exist_ok=True)
    folder.captions(era).write_text("".join(json.dumps(row) + "\n" for row in rows))
    folder.scores(era).write_text("".join(json.dumps(score) + "\n" for score in scores))
    return dict(bank)


def _draw(key: str, question: Question, said: str | None) -> dict[str, Any]:
    """One draw with the options in reverse, and the further one last."""
    order = (*reversed(range(len(question.options))), EXTRA)
    shown = [None if place == EXTRA else question.options[place] for place in order]
    outcome = "abstained" if said is None else "right" if said == question.gold_text else "wrong"
    return {
        "question_id": question_id(key, question),
        "order": order_text(order),
        "letter": LETTERS[shown.index(said)],
        "outcome": outcome,
        "reply": f" {said or 'cannot answer'}",
    }
