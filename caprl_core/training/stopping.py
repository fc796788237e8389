"""What ends a run early: a signal, or a captioner that has collapsed; and what the trainer tells while it runs."""

import signal
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from caprl_core.recipe.training import TrainingRecipe
from caprl_core.training.arguments import CHECKPOINTS
from caprl_core.training.collapse import weights_lost
from caprl_core.training.record import Stop
from caprl_core.training.recorder import Recorder


class SignalFlag:
    """Set by SIGTERM or SIGINT; a second one ends the process at once."""

    def __init__(self) -> None:
        self.name: str | None = None

    def install(self) -> None:
        """Listen, from the main thread."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._received)

    def _received(self, number: int, _: types.FrameType | None) -> None:
        if self.name is not None:
            raise SystemExit(128 + number)
        self.name = signal.Signals(number).name


class RunWatch(TrainerCallback):  # type: ignore[misc]  # transformers is untyped for us
    """Records each log, and stops the trainer at the end of a step, with a checkpoint, when there is a reason to.

    `stopped` is the reason afterwards, None if the run went to its end.
    """

    def __init__(
        self,
        *,
        recipe: TrainingRecipe,
        recorder: Recorder | None,
        collapsed: Callable[[Mapping[str, Any]], str | None],
        flag: SignalFlag,
        saved: Callable[[Path], None],
        accelerator: Any,
    ) -> None:
        """`recorder` is None on all but the main process; `saved` is told of each whole checkpoint, there alone."""
        self._recipe = recipe
        self._recorder = recorder
        self._collapsed = collapsed
        self._flag = flag
        self._saved = saved
        self._accelerator = accelerator
        self._detail: str | None = None
        self.stopped: Stop | None = None

    @property
    def signalled(self) -> bool:
        """Whether a signal stopped the run: it is to be resumed."""
        return self.stopped is not None and self.stopped.reason == "signal"

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """A checkpoint brings along the rhythm it was written in; the recipe's is what counts."""
        state.compute_steps(args, state.max_steps)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        """A step has been logged. Lost weights end the run here, before they are looked at or saved.

        Every process sees that for itself: the loss and the norm it is told are those of all of them.
        """
        if logs is None:
            return
        line = None if self._recorder is None else self._recorder.logged(state.global_step, logs)
        if line is not None:
            self._detail = self._collapsed(line)
        if weights_lost(logs) is not None:
            self.stopped = self._collapse()
            control.should_training_stop = True
            control.should_save = control.should_evaluate = False

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Decide what follows the step: evaluations have a checkpoint, and the last step has both.

        All processes agree whether to go on: one that stopped alone would leave the others waiting for ever.
        """
        signalled, collapsed = self._together(self._flag.name is not None, self._detail is not None)
        last = state.global_step >= state.max_steps
        if collapsed and not last:
            self.stopped = self._collapse()
        if signalled and not last:
            self.stopped = Stop("signal", self._flag.name or "a signal to another process")
        if self.stopped is not None:
            control.should_training_stop = control.should_save = True
        if last or (collapsed and not self.signalled):
            control.should_evaluate = True
        if last or state.global_step % self._recipe.evaluation.every == 0:
            control.should_save = True

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """A checkpoint has been written."""
        if self._recorder is not None:
            self._saved(Path(args.output_dir).parent / CHECKPOINTS / f"checkpoint-{state.global_step}")

    def _collapse(self) -> Stop:
        return Stop("collapse", self._detail or "told by the main process")

    def _together(self, *mine: bool) -> tuple[bool, ...]:
        """Whether each holds in any process."""
        told = torch.tensor([float(one) for one in mine], device=self._accelerator.device)
        return tuple(bool(one) for one in self._accelerator.reduce(told, reduction="sum").tolist())
