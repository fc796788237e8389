"""The planning task: reads every source once and gives the dataset its identity."""

from collections.abc import Callable

from prefect import task
from prefect.cache_policies import NO_CACHE

from caprl_core.recipe.models import StageRecipe
from caprl_core.shards.dataset import Dataset, create_dataset, has_dataset, open_dataset
from caprl_core.shards.plan import write_plan
from caprl_core.shards.plan_file import PlanReport
from caprl_core.storage.store import Store
from tasks.retrying import RETRIES, backoff, worth_retrying


@task(
    name="plan",
    task_run_name="plan",
    tags={"plan"},
    retries=RETRIES,
    retry_delay_seconds=backoff,
    retry_condition_fn=worth_retrying,
    persist_result=False,
    cache_policy=NO_CACHE,
)
def plan_dataset(
    recipe: StageRecipe, store: Store, stage: str, progress: Callable[[int], None] = lambda _: None
) -> tuple[Dataset, PlanReport | None]:
    """Open the dataset of a recipe and stage, planning it first where there is none; the report comes with a new plan.

    Raises `IdentityMismatchError`, naming each field, when the store holds a dataset of another recipe.
    """
    if has_dataset(store):
        return open_dataset(store, recipe), None
    report = write_plan(recipe, store, progress)
    return create_dataset(recipe, store, report, stage), report
