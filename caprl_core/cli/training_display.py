"""How a training run shows itself: live on a terminal, plain lines elsewhere, the events themselves for scripts."""

from collections.abc import Mapping
from typing import Any

from rich.console import Group
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from caprl_core.cli.run_display import LINE_EVERY_S, RunDisplay
from caprl_core.cli.training_course import Course, in_words
from caprl_core.training.supervising import GRACE_S


class TrainingDisplay(RunDisplay):
    """Shows the events of a training run; otherwise as the display of any run."""

    stop_grace_s = GRACE_S + 30
    """Seconds a stopped run may take: the processes' own, and some to kill those that did not stop."""

    def __init__(self, *, as_json: bool, live: bool, resume: str = "") -> None:
        self._course = Course()
        self._shown_step = 0
        super().__init__(as_json=as_json, live=live, resume=resume)

    def training(self, event: Mapping[str, Any]) -> None:
        """An event of the training processes, or that they are asked to stop."""
        kind = str(event["event"])
        if kind == "stopping":
            self.stopping()
        self._course.event(event)
        said = in_words(event)
        if self._json or said is not None:
            self._say(kind, said or "", **{name: value for name, value in event.items() if name != "event"})
        # Scripts are told every step; a terminal shows it live.
        if kind == "begin" and self._live is None and not self._json and not self._ticker.is_alive():
            self._ticker.start()

    def _tick(self) -> None:
        while not self._ended.wait(LINE_EVERY_S):
            if self._course.step != self._shown_step:
                self._shown_step = self._course.step
                self._say("progress", self._course.figures())

    def _render(self) -> Group | Text:
        course = self._course
        if not course.steps:
            return Text("")
        top = Table.grid(padding=(0, 1))
        top.add_row(
            ProgressBar(total=course.steps, completed=course.step, width=30),
            Text(course.figures(), overflow="ellipsis"),
        )
        best = course.best.get("reward")
        below = f"best held out {best:.3f} after step {course.best['step']:,}" if best is not None else ""
        return Group(top, Text(below, style="dim", overflow="ellipsis", no_wrap=True))
