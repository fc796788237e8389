"""A lane: one engine, loaded once, for a slice of a dataset's shards and for more while there is more.

The captioning flow hands slices to lanes. Running the same slice again resumes.
`python -m flows.caption_shards --config FILE --shards 0-9` does so by hand.
"""

if __name__ == "__main__":
    # Before Prefect is imported: it reads its settings and sets up logging at that moment.
    from flows.command_line import caption_shards_command

    caption_shards_command()

from typing import Any

from prefect import flow
from prefect.task_runners import ThreadPoolTaskRunner

from caprl_core.captioning.stage import CaptionStage
from caprl_core.engines.open import open_engine
from caprl_core.recipe.load import load_recipe
from caprl_core.recipe.relocate import relocated
from caprl_core.shards.dataset import open_dataset
from caprl_core.shards.gate import quarantined_units
from caprl_core.shards.progress import unfinished_units
from caprl_core.shards.slices import parse_units
from caprl_core.storage.commit import list_units
from caprl_core.storage.store import Store
from flows.run_names import named_by
from flows.shard_run import MAX_IN_FLIGHT, part_start, run_shards


@flow(
    name="caption-shards",
    flow_run_name=named_by(load_recipe, "shards of"),
    task_runner=ThreadPoolTaskRunner(max_workers=MAX_IN_FLIGHT),  # type: ignore[arg-type]
    persist_result=False,
)
def caption_shards(
    config: str, shards: str | list[int], output: str | None = None, work: str | None = None
) -> dict[str, Any]:
    """Caption these shards of a planned dataset, as far as they are not done; returns a summary.

    `shards` is a list of numbers, or text such as `0-3,7`. Where nothing is left, no engine is loaded. `work` is the
    key of an object in the dataset's store that says what else there is to do, now and later; a run that hands out
    slices writes it. Raises `BadInputError` when there is no such dataset or shard, and what `run_shards` raises.
    """
    recipe = relocated(load_recipe(config), output)
    dataset = open_dataset(Store(recipe.execution.output, recipe.execution.storage), recipe)
    wanted = parse_units(shards, dataset.record.shards)
    unfinished = set(unfinished_units(dataset))
    units = [unit for unit in wanted if unit in unfinished]
    committed = frozenset(list_units(dataset.store))
    samples = sum(dataset.shard_samples(unit.shard) for unit in units if unit not in committed)
    return run_shards(
        "caption-shards",
        recipe,
        dataset,
        stage=CaptionStage(recipe),
        open_engine=lambda: open_engine(recipe),
        units=units,
        start=part_start(dataset, units, samples, committed),
        expected_to_fail=quarantined_units(dataset.store).keys() - committed,
        work_key=work,
    )
