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

from caprl_core.captioning.stage import CaptionStage
from caprl_core.engines.open import open_engine
from caprl_core.errors import BadInputError
from caprl_core.recipe.load import load_recipe
from caprl_core.recipe.relocate import relocated
from flows.shard_run import MAX_IN_FLIGHT
from flows.whole_dataset import run_dataset


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
    return run_dataset(
        "caption-dataset",
        recipe,
        stage=CaptionStage(recipe),
        open_engine=lambda: open_engine(recipe),
        max_shards=max_shards,
    )
