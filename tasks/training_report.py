"""A training run as Prefect artifacts: a progress bar with its figures, and a table of its evaluations.

Artifacts are for people. When the server does not take one the run goes on, because the run folder has it all.
"""

import logging
import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from uuid import UUID

from prefect.artifacts import create_markdown_artifact, create_progress_artifact, update_progress_artifact

from caprl_core.cli.training_course import Course, in_words
from caprl_core.recipe.training import TrainingRecipe
from tasks.reports import UPDATE_S

COLUMNS = ("reward", "second_reward", "accuracy", "abstained", "unread", "truncated", "length_mean")
"""Of the table of evaluations, as far as they have a value."""


class TrainingReport:
    """The artifacts of one training task. Used from its thread."""

    def __init__(self, recipe: TrainingRecipe, logger: logging.Logger | logging.LoggerAdapter[Any]) -> None:
        self._name = recipe.name
        self._logger = logger
        self._course = Course()
        self._evaluations: list[Mapping[str, Any]] = []
        self._artifact: UUID | None = None
        self._updated = float("-inf")

    def event(self, event: Mapping[str, Any]) -> None:
        """An event of the run: to the log, and at most every few seconds to the progress bar."""
        self._course.event(event)
        if event["event"] == "held_out":
            self._evaluations.append(event)
            self._publish("evaluations", lambda: publish_evaluations(self._name, self._evaluations))
        if (said := in_words(event)) is not None:
            self._logger.info("%s", said)
        due = time.monotonic() - self._updated >= UPDATE_S
        if event["event"] in ("done", "stopped") or (event["event"] in ("begin", "step") and due):
            self._updated = time.monotonic()
            self._logger.info("%s", self._course.figures())
            self._publish("progress", self._progress)

    def _progress(self) -> None:
        share, text = 100.0 * self._course.share, self._course.figures()
        if self._artifact is None:
            key = artifact_key(self._name, "progress")
            self._artifact = create_progress_artifact(share, key=key, description=text)  # type: ignore[assignment]
        else:
            update_progress_artifact(self._artifact, share, description=text)

    def _publish(self, what: str, publish: Callable[[], object]) -> None:
        try:
            publish()
        except Exception as error:
            self._logger.warning("no %s artifact: %s", what, error)


def publish_evaluations(name: str, evaluations: Sequence[Mapping[str, Any]], head: str = "") -> None:
    """A table of evaluations as an artifact; `head` comes before it."""
    shown = [column for column in COLUMNS if any(line.get(column) is not None for line in evaluations)]
    lines = [f"# {name}", "", *([head, ""] if head else [])]
    lines += ["| step | " + " | ".join(column.replace("_", " ") for column in shown) + " |"]
    lines += ["|---:" * (len(shown) + 1) + "|"]
    for line in evaluations:
        values = ["" if line.get(column) is None else f"{line[column]:.3f}" for column in shown]
        lines.append(f"| {line['step']:,} | " + " | ".join(values) + " |")
    create_markdown_artifact("\n".join(lines) + "\n", key=artifact_key(name, "evaluations"))


def artifact_key(name: str, what: str) -> str:
    """Of the artifacts of a run; Prefect takes small letters, digits and dashes."""
    return re.sub(r"[^a-z0-9-]", "-", f"train-captioner-{name}-{what}")
