"""The task that decides which questions survive: pure, so a retry does no harm."""

from typing import Any

from prefect import get_run_logger, task
from prefect.artifacts import create_link_artifact, create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from caprl_core.qa.finish import Finished, finish
from caprl_core.recipe.qa import QaRecipe
from caprl_core.telemetry.page_address import page_address
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
    finished = finish(recipe)
    try:
        key = f"curate-qa-{recipe.name.replace('_', '-')}"
        create_markdown_artifact(_markdown(recipe, finished), key=f"{key}-funnel")
        address = page_address(finished.summary()["page"], recipe.execution.storage)
        create_link_artifact(address, "report page", key=f"{key}-page")
    except Exception as error:
        get_run_logger().warning("no funnel or link artifact: %s", error)
    return finished.summary()


def _markdown(recipe: QaRecipe, finished: Finished) -> str:
    summary, stats = finished.summary(), finished.stats
    lines = [
        f"# {recipe.name}: set {summary['set']}",
        "",
        f"Page: `{summary['page']}`",
        "",
        "| step | left |",
        "|---|---|",
    ]
    lines += [f"| {step.replace('_', ' ')} | {count:,} |" for step, count in stats.funnel.items()]
    lines += ["", "| reason | questions |", "|---|---|"]
    lines += [f"| {reason} | {count:,} |" for reason, count in {**stats.refused, **stats.reasons}.items()]
    return "\n".join(lines) + "\n"
