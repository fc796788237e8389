"""Chapter 3: the captioner learns to say what the reader needs to know."""

from pathlib import Path
from typing import NamedTuple

from caprl_core.report.axes import figure
from caprl_core.training.page.curves import duration
from caprl_core.world.demo.commands import Commands, DemoError, Event
from caprl_core.world.demo.terminal import Busy, Terminal


class Learnt(NamedTuple):
    """What came of it. captioner: folder of the model; step: of its weights; rewards are of the watched pictures."""

    captioner: Path
    page: Path
    step: int
    reward_before: float | None
    reward_after: float | None


def learn(recipe: Path, commands: Commands, terminal: Terminal) -> Learnt:
    """Train to the end. Raises `DemoError`."""
    summary = None
    with commands.follow("train", recipe, "--json") as run, terminal.busy("starting") as busy:
        course = _Course(terminal, busy)
        for event in run.events():
            course.event(event)
            summary = event if event["event"] == "summary" else summary
        run.ended()
    if summary is None:
        raise DemoError("the training has ended without a summary")
    terminal.say("\n".join(summary["lines"]))
    return Learnt(
        Path(summary["captioner"]),
        Path(summary["page"]),
        summary["step"],
        summary["held_out_before"],
        summary["held_out_reward"],
    )


class _Course:
    """Shows the steps on the line of progress, and says what is worth a line of its own."""

    def __init__(self, terminal: Terminal, busy: Busy) -> None:
        self._terminal = terminal
        self._busy = busy
        self._began_at = 0.0

    def event(self, event: Event) -> None:
        """Take an event in."""
        match event["event"]:
            case "begin":
                self._busy.tell("looking at the held-out pictures", 0, event["steps"])
            case "step":
                self._busy.tell(self._step(event), event["step"], event["steps"])
            case "held_out":
                words = f"{figure(event['reward'])}, {figure(event['length_mean'])} tokens a caption"
                self._terminal.say(f"held-out reward after step {event['step']:,}: {words}")
            case "stopped":
                self._terminal.say(f"training ended early, after step {event['step']:,}: {event['detail']}")

    def _step(self, event: Event) -> str:
        # The first step warms up, so the pace is taken from its end.
        step, steps = event["step"], event["steps"]
        self._began_at = self._began_at or event["at"]
        text = f"step {step} of {steps}, reward {figure(event['reward'])}"
        if step < 2:
            return text
        left = (steps - step) * (event["at"] - self._began_at) / (step - 1)
        return f"{text}, {figure(event['step_s'])} s a step, {duration(left)} left"
