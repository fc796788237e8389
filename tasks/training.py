"""The tasks of training a captioner: train, look at what came of it, write its page, register it."""

import threading
from collections.abc import Callable, Mapping
from typing import Any

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun

from caprl_core.errors import IncompleteError
from caprl_core.recipe.training import TrainingRecipe
from caprl_core.storage.store import Store
from caprl_core.training.evaluations import read_evaluations
from caprl_core.training.launch import (
    machine_rank,
    training_command,
    training_environment,
    work_folder,
    write_recipe,
)
from caprl_core.training.page.run_files import read_run
from caprl_core.training.page.training_page import REPORT, write_training_page
from caprl_core.training.registry import Captioner, register_captioner
from caprl_core.training.supervising import LOG, supervise
from tasks.retrying import RETRIES, backoff, worth_retrying
from tasks.training_report import TrainingReport, publish_evaluations


class TrainingStoppedError(IncompleteError):
    """Something stopped the training processes; their checkpoint is where the next run goes on."""


class Watched:
    """Who is told the events; a plain class, as Prefect searches other parameters for futures."""

    def __init__(self, tell: Callable[[Mapping[str, Any]], None]) -> None:
        self.tell = tell


def _worth_retrying(task: Any, task_run: TaskRun, state: State[Any]) -> bool:
    return not isinstance(state.data, TrainingStoppedError) and worth_retrying(task, task_run, state)


@task(
    name="train",
    task_run_name="train",
    tags={"train"},
    retries=RETRIES,
    retry_delay_seconds=backoff,
    retry_condition_fn=_worth_retrying,
    persist_result=False,
    cache_policy=NO_CACHE,
)
def train(recipe: TrainingRecipe, watched: Watched) -> dict[str, Any]:
    """Train in processes of their own, from the newest checkpoint on; a retry goes on where they failed.

    Returns what they told at their end (`step`, `exported_step`, …; nothing on a machine other than the first), and in
    `stopped` why they ended before their last step.
    """
    work, rank = work_folder(recipe), machine_rank(recipe)
    report = TrainingReport(recipe, get_run_logger())
    told: dict[str, dict[str, Any]] = {}

    def tell(event: dict[str, Any]) -> None:
        told[event["event"]] = event
        watched.tell(event)
        report.event(event)

    command = training_command(recipe, write_recipe(recipe, work))
    log = work / (f"machine-{rank}-{LOG}" if rank else LOG)
    if not supervise(command, training_environment(recipe), log, tell, threading.Event()):
        step = told.get("stopped", told.get("saved", {})).get("step", 0)
        raise TrainingStoppedError(f"training was stopped after step {step}; the same command again resumes")
    return told.get("done", {}) | {"stopped": (read_run(work).stopped or {}).get("detail")}


@task(name="evaluate", task_run_name="evaluate", tags={"evaluate"}, persist_result=False, cache_policy=NO_CACHE)
def evaluate(recipe: TrainingRecipe) -> dict[str, Any]:
    """The held-out rewards before training, at its best and at its end. Raises `IncompleteError` if there are none."""
    found = read_evaluations(work_folder(recipe))
    before, best, last = found.before, found.best, found.last
    head = (
        f"Held-out reward {'unknown' if before is None else format(before['reward'], '.3f')} before, "
        f"{best['reward']:.3f} at best (step {best['step']:,}), {last['reward']:.3f} at the end (step {last['step']:,})"
    )
    try:
        publish_evaluations(recipe.name, found.lines, head)
    except Exception as error:
        get_run_logger().warning("no evaluations artifact: %s", error)
    return found.summary() | {"line": head}


@task(
    name="training-page",
    task_run_name="page",
    tags={"page"},
    retries=RETRIES,
    retry_delay_seconds=backoff,
    retry_condition_fn=worth_retrying,
    persist_result=False,
    cache_policy=NO_CACHE,
)
def write_page(recipe: TrainingRecipe) -> str:
    """Write the page of the run, also to its output where that is elsewhere; returns its address there."""
    work, execution = work_folder(recipe), recipe.execution
    page = write_training_page(work)
    if execution.work in (None, execution.output):
        return str(page)
    store = Store(execution.output, execution.storage)
    store.put_file(REPORT, page)
    return f"{store.uri}/{REPORT}"


@task(
    name="register",
    task_run_name="register",
    tags={"register"},
    retries=RETRIES,
    retry_delay_seconds=backoff,
    retry_condition_fn=worth_retrying,
    persist_result=False,
    cache_policy=NO_CACHE,
)
def register(recipe: TrainingRecipe, step: int) -> Captioner:
    """Register the captioner exported from `step`, or find it registered."""
    return register_captioner(recipe, work_folder(recipe), step)
