"""The task that decides which questions survive: pure, so a retry does no harm."""

from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from caprl_core.qa.finish import finish
from caprl_core.recipe.qa import QaRecipe
from tasks.retrying import RETRIES, backoff, worth_retrying


@task(
    name="filter-questions",
    task_run_name="filter",
    tags={"filter"},
    retries=RETRIES,
    retry_delay_seconds=backoff,
    retry_condition_fn=worth_retrying,
    persist_result=False,
    cache_policy=NO_CACHE,
)
def curate_questions(recipe: QaRecipe) -> dict[str, Any]:
    """Filter the answered questions and write set, statistics and page; returns what `finish` says in figures."""
    return finish(recipe).summary()
