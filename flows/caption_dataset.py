"""The captioning flow: plan if there is no plan, then one task a shard through one engine. Running it again resumes.

`python -m flows.caption_dataset --config FILE` runs it in this process, with a server of its own if none is configured.
"""

if __name__ == "__main__":
    # Before Prefect is imported: it reads its settings and sets up logging at that moment.
    from flows.command_line import caption_dataset_command

    caption_dataset_command()

from pathlib import Path
from typing import Any

from prefect import flow
from prefect.runtime import flow_run
from prefect.task_runners import ThreadPoolTaskRunner

from caprl_core.errors import BadInputError
from caprl_core.recipe.load import load_recipe
from caprl_core.recipe.models import CaptionRecipe
from caprl_core.recipe.relocate import relocated
from caprl_core.shards.dataset import Dataset
from caprl_core.shards.events import Observer, ShardResult
from caprl_core.shards.gate import quarantined_units
from caprl_core.shards.lane import Lane
from caprl_core.shards.progress import progress, unfinished_units
from caprl_core.shards.tally import RunStart
from caprl_core.storage.commit import list_units
from caprl_core.storage.layout import Unit
from caprl_core.storage.store import Store
from flows.shard_run import MAX_IN_FLIGHT, run_shards
from flows.watching import WATCHER
from tasks.plan import plan_dataset


def _run_name() -> str:
    config = str(flow_run.parameters["config"])
    try:
        return load_recipe(config).name
    except BadInputError:
        return Path(config).stem  # the flow itself says what is wrong


@flow(
    name="caption-dataset",
    flow_run_name=_run_name,
    task_runner=ThreadPoolTaskRunner(max_workers=MAX_IN_FLIGHT),  # type: ignore[arg-type]
    persist_result=False,
)
def caption_dataset(config: str, output: str | None = None, max_shards: int | None = None) -> dict[str, Any]:
    """Caption a dataset as its recipe says, or what is left of it. Returns a summary; the bucket decides what is done.

    `config` is a recipe file, `output` replaces its `execution.output`, `max_shards` ends the run after so many shards.
    """
    recipe = relocated(load_recipe(config), output)
    store = Store(recipe.execution.output, recipe.execution.storage)
    dataset, _ = plan_dataset(recipe, store, WATCHER.get().planning)
    committed = frozenset(list_units(store))
    quarantined = quarantined_units(store).keys() - committed
    # Units in quarantine come last: without a ruling they will most likely end there again.
    units = sorted(unfinished_units(dataset), key=lambda unit: (unit in quarantined, unit))[:max_shards]
    return run_shards(
        "caption-dataset",
        recipe,
        dataset,
        units=units,
        start=_start(recipe, dataset, units, committed),
        run_unit=_caption,
        expected_to_fail=quarantined,
    )


def _caption(lane: Lane, unit: Unit, observe: Observer) -> ShardResult:
    return lane.run(unit, observe)


def _start(recipe: CaptionRecipe, dataset: Dataset, units: list[Unit], committed: frozenset[Unit]) -> RunStart:
    record, whole = dataset.record, recipe.dataset.shard_samples
    last = record.shards - 1
    fresh = [unit for unit in units if unit not in committed]
    before = progress(dataset, recipe.execution.cost)
    done = before.rows + before.rejected
    return RunStart(
        name=record.name,
        uri=dataset.store.uri,
        samples=record.samples,
        total=done + sum(record.samples - last * whole if unit.shard == last else whole for unit in fresh),
        done=done,
        rejected=before.rejected,
        shards=len(units),
        counted=committed,
    )
