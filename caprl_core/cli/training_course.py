"""How far a training run is, from the events it tells: one line of figures, and what is worth a line of its own."""

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from caprl_core.cli.quantities import duration

_RATE_OVER = 20
"""Steps over which the pace is measured: it follows captions as they get longer, and evaluations between them."""


class Course:
    """Told the events of a run in order; a run that goes on after a failure begins again."""

    def __init__(self) -> None:
        self.step = self.steps = 0
        self.line: Mapping[str, Any] = {}
        """The latest step's line of `metrics.jsonl`."""
        self.held_out: Mapping[str, Any] = {}
        """The latest evaluation's of `held_out.jsonl`."""
        self.best: Mapping[str, Any] = {}
        """The best evaluation's of those told."""
        self._times: deque[tuple[int, float]] = deque(maxlen=_RATE_OVER + 1)

    def event(self, event: Mapping[str, Any]) -> None:
        """Take an event in."""
        match event["event"]:
            case "begin":
                self.step, self.steps = event["step"], event["steps"]
                self._times.clear()
            case "step":
                self.step, self.steps, self.line = event["step"], event["steps"], event
                if event.get("at") is not None:
                    self._times.append((self.step, event["at"]))
            case "held_out":
                self.held_out = event
                self.best = event if event.get("best") or not self.best else self.best

    @property
    def share(self) -> float:
        """Of the steps that are done, 0 to 1."""
        return self.step / self.steps if self.steps else 0.0

    @property
    def eta_s(self) -> float | None:
        """Seconds left at the pace of the last steps, evaluations between them included."""
        if len(self._times) < 2:
            return None
        (first, began), (last, ended) = self._times[0], self._times[-1]
        return (self.steps - last) * (ended - began) / (last - first) if last > first else None

    def figures(self) -> str:
        """`step 12/60, reward 0.412, 34 tokens, …`."""
        parts = [f"step {self.step:,}/{self.steps:,}"]
        if self.line:
            parts.append(_figures(self.line))
        if self.held_out:
            parts.append(f"held out {_number(self.held_out.get('reward'))}")
        if (seconds := self.line.get("step_s")) is not None:
            parts.append(f"{duration(seconds)} a step")
        if self.eta_s is not None:
            parts.append(f"{duration(self.eta_s)} left")
        return ", ".join(parts)


def in_words(event: Mapping[str, Any]) -> str | None:
    """An event that is worth a line of its own; None for the others."""
    words = _WORDS.get(event["event"])
    return None if words is None else words(event)


def _begin(event: Mapping[str, Any]) -> str:
    again = "going on after" if event.get("resumed") else "beginning at"
    return f"{again} step {event['step']:,} of {event['steps']:,}, in {event['run']}"


def _held_out(event: Mapping[str, Any]) -> str:
    best = ", the best so far" if event.get("best") else ""
    return f"held out after step {event['step']:,}: {_figures(event)}{best}"


_WORDS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "begin": _begin,
    "held_out": _held_out,
    "saved": lambda event: f"checkpoint saved after step {event['step']:,}",
    "stopped": lambda event: f"stopped after step {event['step']:,} ({event.get('reason')}): {event.get('detail')}",
    "exported": lambda event: f"captioner of step {event['step']:,} exported to {event['folder']}",
    "stopping": lambda event: (
        f"stopping: ending the step and saving a checkpoint, at most {duration(event['grace_s'])}"
    ),
}


def _figures(line: Mapping[str, Any]) -> str:
    """What a step and an evaluation have in common, and the KL a step has."""
    parts = [f"reward {_number(line.get('reward'))}"]
    if line.get("second_reward") is not None:
        parts.append(f"by the second reader {_number(line['second_reward'])}")
    if line.get("length_mean") is not None:
        parts.append(f"{line['length_mean']:.1f} tokens")
    if line.get("abstained") is not None:
        parts.append(f"{line['abstained']:.1%} abstained")
    if line.get("kl") is not None:
        parts.append(f"KL {line['kl']:.4f}")
    return ", ".join(parts)


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.3f}"
