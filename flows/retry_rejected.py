"""The flow that asks rejected samples again and commits superseding revisions of their shards.

`python -m flows.retry_rejected --config FILE [--reason REASON …]` runs it in this process.
"""

if __name__ == "__main__":
    # Before Prefect is imported: it reads its settings and sets up logging at that moment.
    from flows.command_line import retry_rejected_command

    retry_rejected_command()

from typing import Any

from prefect import flow
from prefect.task_runners import ThreadPoolTaskRunner

from caprl_core.captioning.stage import CaptionStage
from caprl_core.engines.open import open_engine
from caprl_core.recipe.load import load_recipe
from caprl_core.recipe.relocate import relocated
from caprl_core.shards.dataset import open_dataset
from caprl_core.shards.events import Observer, ShardResult
from caprl_core.shards.gate import quarantined_units
from caprl_core.shards.lane import Lane
from caprl_core.shards.revise import known_reasons, next_unit, revisable
from caprl_core.shards.revise import retry_rejected as revise_unit
from caprl_core.storage.layout import Unit
from caprl_core.storage.store import Store
from flows.run_names import named_by
from flows.shard_run import MAX_IN_FLIGHT, part_start, run_shards


@flow(
    name="retry-rejected",
    flow_run_name=named_by(load_recipe, "retry"),
    task_runner=ThreadPoolTaskRunner(max_workers=MAX_IN_FLIGHT),  # type: ignore[arg-type]
    persist_result=False,
)
def retry_rejected(
    config: str, reasons: list[str] | None = None, output: str | None = None, max_shards: int | None = None
) -> dict[str, Any]:
    """Ask the rejected samples again, those of `reasons` or all; each shard that has some gets one new revision.

    Every run makes another revision, whether or not the samples succeed this time; committed ones are never changed.
    """
    recipe = relocated(load_recipe(config), output)
    wanted = known_reasons(reasons or ())
    dataset = open_dataset(Store(recipe.execution.output, recipe.execution.storage), recipe)
    refused = quarantined_units(dataset.store).keys()
    # What the gate has refused comes last: most likely it does so again.
    records = sorted(revisable(dataset, wanted), key=lambda record: next_unit(record) in refused)[:max_shards]
    samples = sum(record.samples for record in records)

    def revise(lane: Lane, unit: Unit, observe: Observer) -> ShardResult:
        return revise_unit(lane, dataset, unit, wanted, observe)

    units = [next_unit(record) for record in records]
    return run_shards(
        "retry-rejected",
        recipe,
        dataset,
        stage=CaptionStage(recipe),
        open_engine=lambda: open_engine(recipe),
        units=units,
        start=part_start(dataset, units, samples),
        run_unit=revise,
        expected_to_fail=refused & set(units),
    )
