"""A stage over a whole dataset: plan it where there is no plan, then run what is left. Running it again resumes."""

from collections.abc import Callable
from typing import Any

from caprl_core.engines.protocol import Engine
from caprl_core.recipe.models import StageRecipe
from caprl_core.shards.dataset import Dataset
from caprl_core.shards.gate import quarantined_units
from caprl_core.shards.progress import progress, unfinished_units
from caprl_core.shards.stage import Stage
from caprl_core.shards.tally import RunStart
from caprl_core.storage.commit import list_units
from caprl_core.storage.layout import Unit
from caprl_core.storage.store import Store
from flows.shard_run import run_shards
from flows.watching import WATCHER
from tasks.plan import plan_dataset


def run_dataset(
    flow: str,
    recipe: StageRecipe,
    *,
    stage: Stage,
    open_engine: Callable[[], Engine],
    max_shards: int | None = None,
) -> dict[str, Any]:
    """Work every unit that is not done, at most `max_shards`; returns a summary. Raises as `run_shards` does."""
    store = Store(recipe.execution.output, recipe.execution.storage)
    dataset, _ = plan_dataset(recipe, store, stage.name, WATCHER.get().planning)
    committed = frozenset(list_units(store))
    quarantined = quarantined_units(store).keys() - committed
    # Units in quarantine come last: without a ruling they will most likely end there again.
    units = sorted(unfinished_units(dataset), key=lambda unit: (unit in quarantined, unit))[:max_shards]
    return run_shards(
        flow,
        recipe,
        dataset,
        stage=stage,
        open_engine=open_engine,
        units=units,
        start=run_start(recipe, dataset, units, committed),
        expected_to_fail=quarantined,
    )


def run_start(recipe: StageRecipe, dataset: Dataset, units: list[Unit], committed: frozenset[Unit]) -> RunStart:
    """What a run over these units begins with: samples done before, and those of the units that are fresh."""
    record = dataset.record
    fresh = [unit for unit in units if unit not in committed]
    before = progress(dataset, recipe.execution.cost)
    done = before.rows + before.rejected
    return RunStart(
        name=record.name,
        uri=dataset.store.uri,
        samples=record.samples,
        total=done + sum(dataset.shard_samples(unit.shard) for unit in fresh),
        done=done,
        rejected=before.rejected,
        shards=len(units),
        counted=committed,
        gpu_hours=before.gpu_hours,
    )
