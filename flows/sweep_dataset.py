"""Deletes what losing and dead attempts left beside a dataset's published shards. Safe beside running lanes.

`python -m flows.sweep_dataset --config FILE` runs it in this process; `caprl sweep` is the same without Prefect.
"""

if __name__ == "__main__":
    # Before Prefect is imported: it reads its settings and sets up logging at that moment.
    from flows.command_line import sweep_dataset_command

    sweep_dataset_command()

from typing import Any

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE

from caprl_core.recipe.load import load_recipe
from caprl_core.recipe.relocate import relocated
from caprl_core.shards.dataset import open_dataset
from caprl_core.storage.commit import list_units, read_commits
from caprl_core.storage.publish import sweep
from caprl_core.storage.store import Store
from flows.run_names import named_by
from tasks.retrying import RETRIES, backoff, worth_retrying


@task(
    name="sweep",
    task_run_name="sweep",
    retries=RETRIES,
    retry_delay_seconds=backoff,
    retry_condition_fn=worth_retrying,
    persist_result=False,
    cache_policy=NO_CACHE,
)
def _sweep(store: Store, dry_run: bool) -> list[str]:
    return sweep(store, read_commits(store, list_units(store)), dry_run=dry_run)


@flow(name="sweep", flow_run_name=named_by(load_recipe, "sweep"), persist_result=False)
def sweep_dataset(config: str, output: str | None = None, dry_run: bool = False) -> dict[str, Any]:
    """Delete the attempts at committed, published shards; returns how many objects. `dry_run` only counts them.

    Logs of shards that are not committed stay, because a resume needs them. Raises `BadInputError` without a dataset.
    """
    recipe = relocated(load_recipe(config), output)
    dataset = open_dataset(Store(recipe.execution.output, recipe.execution.storage), recipe)
    keys = _sweep(dataset.store, dry_run)
    text = f"{len(keys):,} objects {'would be' if dry_run else 'were'} deleted"
    get_run_logger().info("%s: %s", dataset.store.uri, text)
    return {"name": dataset.record.name, "uri": dataset.store.uri, "objects": len(keys), "lines": [text]}
