"""One process of a training run: everything from the recipe to the exported captioner."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

from caprl_core.errors import BadInputError
from caprl_core.qa.question import Question
from caprl_core.recipe.training import TrainingRecipe
from caprl_core.reward.score import CaptionToScore, Score
from caprl_core.training.arguments import CHECKPOINTS, training_arguments
from caprl_core.training.checkpoints import (
    best_step,
    newest_checkpoint,
    remove_half_written,
    remove_old,
    step_of,
    whole_checkpoints,
)
from caprl_core.training.collapse import CollapseWatch
from caprl_core.training.curve import HELD_OUT, METRICS, cut_after, read_lines
from caprl_core.training.exporting import export_captioner
from caprl_core.training.mirror import Mirror
from caprl_core.training.policy import load_policy, refuse_empty_reference
from caprl_core.training.questions import TaughtSet, taught_sets
from caprl_core.training.record import Stop, begin_record, stopped_reason, write_stopped, write_watched
from caprl_core.training.rewarding import CaptionReward, Reader
from caprl_core.training.rollouts import Rollout
from caprl_core.training.task import task_dataset

Tell = Callable[[dict[str, Any]], None]
"""Told each event of the run; see docs/training.md."""
BARRIER = timedelta(hours=6)
"""What the other processes wait while the main one exports or mirrors; 10 minutes, NCCL's own limit, are soon over."""


def train(recipe: TrainingRecipe, tell: Tell) -> bool:
    """Train to the end, or on from the newest checkpoint, and export; False if a signal stopped it before.

    To be called by every process of the run alike. Raises `BadInputError`, `IdentityMismatchError` when the folder
    holds a run of another recipe or of other questions, `EngineDeadError` when the reader is gone, `StoreError`.
    """
    import torch  # noqa: PLC0415 - seconds to import
    from accelerate import PartialState  # noqa: PLC0415

    from caprl_core.training.stopping import SignalFlag  # noqa: PLC0415 - imports transformers

    flag = SignalFlag()
    flag.install()
    if recipe.execution.threads is not None:
        torch.set_num_threads(recipe.execution.threads)
    state = PartialState(cpu=not torch.cuda.is_available(), timeout=BARRIER)
    if state.num_processes != recipe.execution.processes:
        raise BadInputError(
            f"execution.processes is {recipe.execution.processes}, and {state.num_processes} were started: a step "
            "would have another number of captions. Check execution.accelerate_config, or what launched this"
        )
    refuse_empty_reference(recipe)
    work = Path(recipe.execution.work or recipe.execution.output)
    mirror = Mirror(recipe, work) if recipe.execution.work not in (None, recipe.execution.output) else None
    run = _Run(recipe, work, mirror, tell)
    with state.local_main_process_first():
        if mirror is not None and state.is_main_process:
            mirror.restore()
        sets = taught_sets(recipe, work / "sets")
    if (pictures := len(sets[0].questions)) < recipe.grpo.groups:
        raise BadInputError(
            f"{recipe.questions.train}: {pictures} pictures to train on, and a step takes grpo.groups = "
            f"{recipe.grpo.groups} different ones: lower grpo.groups, or give more pictures"
        )
    checkpoint = newest_checkpoint(work / CHECKPOINTS)
    step = 0 if checkpoint is None else step_of(checkpoint)
    # An earlier attempt that collapsed is not taken up to collapse again, as long as it has something to export.
    over = step >= recipe.steps or (checkpoint is not None and stopped_reason(work) == "collapse")
    if state.is_main_process:
        begin_record(recipe, work, *sets, state.num_processes)
        remove_half_written(work / CHECKPOINTS)
        write_watched(recipe, work, sets[1])
        if not over:
            for name in (METRICS, HELD_OUT):
                cut_after(work / name, -1 if checkpoint is None else step)
        tell({"event": "begin", "step": step, "steps": recipe.steps, "resumed": step > 0, "run": str(work)})
    state.wait_for_everyone()
    stopped: Stop | None = None
    if not over:
        step, stopped = _trained(run, sets, checkpoint, flag)
        if state.is_main_process:
            write_stopped(work, step, stopped)
            if stopped is not None:
                tell({"event": "stopped", "step": step, **stopped._asdict()})
            if mirror is not None:
                mirror.push_records()
    ended = stopped is None or stopped.reason != "signal"
    if ended and state.is_main_process:
        _finish(run, stopped)
    state.wait_for_everyone()
    return ended


class _Run(NamedTuple):
    """What every part of a run needs."""

    recipe: TrainingRecipe
    work: Path
    mirror: Mirror | None
    tell: Tell


def _trained(
    run: _Run, sets: tuple[TaughtSet, TaughtSet], checkpoint: Path | None, flag: Any
) -> tuple[int, Stop | None]:
    """The step it came to, and why it stopped there (None: at its end)."""
    from transformers import PrinterCallback  # noqa: PLC0415

    from caprl_core.training.recorder import Recorder  # noqa: PLC0415 - imports trl
    from caprl_core.training.stopping import RunWatch  # noqa: PLC0415
    from caprl_core.training.trainer import CaptionTrainer  # noqa: PLC0415

    recipe, work, mirror, tell = run
    train_set, held_out = sets
    policy = load_policy(recipe, checkpoint)
    reader = Reader(recipe.reward)
    second = None if recipe.evaluation.second_reader is None else Reader(recipe.evaluation.second_reader)
    questions = {**train_set.questions, **held_out.questions}
    recorder = Recorder(work, recipe, questions, tell)
    recorder.restore_best(read_lines(work / HELD_OUT))
    trainer = CaptionTrainer(
        recipe=recipe,
        reward=CaptionReward(reader, questions),
        seen=recorder.seen,
        model=policy.model,
        processing_class=policy.processor,
        peft_config=policy.adapters,
        args=training_arguments(recipe, work, resumes=checkpoint is not None),
        train_dataset=task_dataset(train_set, recipe.policy, held_out=False),
        eval_dataset=task_dataset(held_out, recipe.policy, held_out=True),
    )

    def on_loop(work: Coroutine[Any, Any, Any]) -> Any:
        """Its result; the readers' engines are bound to the trainer's loop."""
        return asyncio.run_coroutine_threadsafe(work, trainer.async_loop).result()

    if second is not None:
        recorder.second = lambda rollouts: list(on_loop(_scores(second, rollouts, questions)))
    collapse = CollapseWatch(recipe.collapse)
    for line in read_lines(work / METRICS):
        collapse.add(line)

    def saved(made: Path) -> None:
        remove_old(work / CHECKPOINTS, read_lines(work / HELD_OUT), recipe.execution.checkpoints_kept)
        tell({"event": "saved", "step": step_of(made), "checkpoint": str(made)})
        if mirror is not None:
            mirror.push_checkpoint(made)
            mirror.push_records()

    main = trainer.accelerator.is_main_process
    watch = RunWatch(
        recipe=recipe,
        recorder=recorder if main else None,
        collapsed=collapse.add,
        flag=flag,
        saved=saved,
        accelerator=trainer.accelerator,
    )
    trainer.remove_callback(PrinterCallback)  # standard output is for our events
    trainer.add_callback(watch)
    if main:
        # Everybody has read it by now; a run that is killed from here on did not stop as an earlier one did.
        write_stopped(work, 0, None)
    try:
        trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    finally:
        for one in (reader, second):
            if one is not None:
                on_loop(one.close())
    return trainer.state.global_step, watch.stopped


async def _scores(
    reader: Reader, rollouts: Sequence[Rollout], questions: Mapping[str, Sequence[Question]]
) -> list[Score]:
    asked = [CaptionToScore(one.key, one.caption, tokens=one.tokens, truncated=one.truncated) for one in rollouts]
    return await reader.score_held_out(asked, questions)


def _finish(run: _Run, stopped: Stop | None) -> None:
    """Export the captioner, and mirror what is left. Raises `BadInputError` where there is no checkpoint."""
    recipe, work, mirror, tell = run
    chosen = _chosen(recipe, work)
    if chosen is None:
        why = "" if stopped is None else f": {stopped.detail}"
        raise BadInputError(f"{work / CHECKPOINTS}: no whole checkpoint, so there is nothing to export{why}")
    folder = export_captioner(recipe, chosen, work)
    tell({"event": "exported", "folder": str(folder), "step": step_of(chosen)})
    if mirror is not None:
        mirror.push_records()
        mirror.push_captioner(folder)
    evaluations = {line["step"]: line["reward"] for line in read_lines(work / HELD_OUT)}
    last = newest_checkpoint(work / CHECKPOINTS)
    tell(
        {
            "event": "done",
            "step": step_of(last or chosen),
            "captioner": str(folder),
            "exported_step": step_of(chosen),
            "held_out_before": evaluations.get(0),
            "held_out_reward": evaluations.get(step_of(chosen)),
        }
    )


def _chosen(recipe: TrainingRecipe, work: Path) -> Path | None:
    """The checkpoint to export: of the best evaluation, or the last one; None if there is none."""
    folder = work / CHECKPOINTS
    last = newest_checkpoint(folder)
    if last is None or recipe.evaluation.export == "last":
        return last
    best = best_step(read_lines(work / HELD_OUT), whole_checkpoints(folder))
    return last if best is None else folder / f"checkpoint-{best}"
