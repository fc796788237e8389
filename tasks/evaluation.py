"""The tasks around a Prism evaluation that ask no engine: checking its benchmarks, and scoring the replies."""

from typing import Any

from prefect import get_run_logger, task
from prefect.artifacts import create_link_artifact, create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from caprl_core.prism.benchmarks import check_benchmarks
from caprl_core.prism.finish import finish
from caprl_core.prism.results.tables import run_tables
from caprl_core.prism.results.typeset import as_markdown
from caprl_core.recipe.prism import PrismRecipe
from caprl_core.telemetry.page_address import page_address
from tasks.retrying import RETRIES, backoff, worth_retrying


@task(
    name="check-benchmarks",
    task_run_name="benchmarks",
    tags={"prism"},
    retries=RETRIES,
    retry_delay_seconds=backoff,
    retry_condition_fn=worth_retrying,
    persist_result=False,
    cache_policy=NO_CACHE,
)
def check_questions(recipe: PrismRecipe) -> dict[str, int]:
    """Read the benchmarks; returns questions by benchmark. Raises `BadInputError` naming rows nothing can score."""
    return dict(check_benchmarks(recipe))


@task(
    name="score-captions",
    task_run_name="score",
    tags={"prism"},
    retries=RETRIES,
    retry_delay_seconds=backoff,
    retry_condition_fn=worth_retrying,
    persist_result=False,
    cache_policy=NO_CACHE,
)
def score_captions(recipe: PrismRecipe) -> dict[str, Any]:
    """Score the judge's replies and write results, tables and page; pure, so a retry does no harm."""
    finished = finish(recipe)
    try:
        key = f"evaluate-captions-{recipe.name.replace('_', '-')}"
        tables = "\n".join(as_markdown(table) for table in run_tables(finished.result))
        create_markdown_artifact(tables, key=f"{key}-scores")
        address = page_address(finished.summary()["page"], recipe.execution.storage)
        create_link_artifact(address, "report page", key=f"{key}-page")
    except Exception as error:
        get_run_logger().warning("no scores or link artifact: %s", error)
    return finished.summary() | {"lines": finished.text().splitlines()}
