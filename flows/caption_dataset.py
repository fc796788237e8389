"""The captioning flow: plan if there is no plan, then one task a shard through one engine. Running it again resumes.

With `lanes` it only plans and hands out: slices of shards go to lanes, each with an engine of its own, as processes of
this machine or as flow runs of a deployment.
`python -m flows.caption_dataset --config FILE` runs it in this process, with a server of its own if none is configured.
"""

if __name__ == "__main__":
    # Before Prefect is imported: it reads its settings and sets up logging at that moment.
    from flows.command_line import caption_dataset_command

    caption_dataset_command()

from collections.abc import Callable
from typing import Any

from prefect import flow, get_run_logger
from prefect.task_runners import ThreadPoolTaskRunner

from caprl_core.captioning.stage import CaptionStage
from caprl_core.engines.devices import device_groups, visible_devices
from caprl_core.engines.open import open_engine
from caprl_core.errors import BadInputError
from caprl_core.recipe.load import load_recipe
from caprl_core.recipe.models import CaptionRecipe
from caprl_core.recipe.relocate import relocated
from flows.lanes_run import run_dataset_in_lanes
from flows.run_names import named_by
from flows.shard_run import MAX_IN_FLIGHT
from flows.whole_dataset import run_dataset
from tasks.deployed_lanes import DeployedLanes
from tasks.lanes import LaneHost, LocalLanes


@flow(
    name="caption-dataset",
    flow_run_name=named_by(load_recipe),
    task_runner=ThreadPoolTaskRunner(max_workers=MAX_IN_FLIGHT),  # type: ignore[arg-type]
    persist_result=False,
)
def caption_dataset(
    config: str,
    output: str | None = None,
    max_shards: int | None = None,
    lanes: int | None = None,
    lane_deployment: str | None = None,
) -> dict[str, Any]:
    """Caption a dataset as its recipe says, or what is left of it. Returns a summary; the bucket decides what is done.

    `config` is a recipe file, `output` replaces its `execution.output`, `max_shards` ends the run after so many shards.
    `lanes` engines work at once: 0 is one for each GPU visible here (or group of `tensor_parallel`), None one engine in
    this process. With `lane_deployment`, such as `caption-shards/caption-shards`, they are flow runs of that
    deployment, on as many hosts as its pool has workers. Raises `BadInputError` for lanes that cannot be had.
    """
    recipe = relocated(load_recipe(config), output)
    stage = CaptionStage(recipe)
    if lanes is None and lane_deployment is None:
        return run_dataset(
            "caption-dataset", recipe, stage=stage, open_engine=lambda: open_engine(recipe), max_shards=max_shards
        )
    host = _host(recipe, config, output, lanes or 0, lane_deployment)
    return run_dataset_in_lanes("caption-dataset", recipe, stage=stage, host=host, max_shards=max_shards)


def _host(
    recipe: CaptionRecipe, config: str, output: str | None, lanes: int, deployment: str | None
) -> Callable[[], LaneHost]:
    """Makes the lanes' host once there is a plan; what is wrong with the parameters is told at once."""
    if lanes < 0:
        raise BadInputError(f"lanes: {lanes} is not a number of lanes")
    if deployment is None:
        devices = device_groups(visible_devices(), recipe.execution.engine.tensor_parallel, lanes)
        arguments = ["--config", config] + (["--output", output] if output is not None else [])
        return lambda: LocalLanes("flows.caption_shards", arguments, devices)
    if lanes == 0:
        raise BadInputError(
            "lanes: say how many lanes of lane_deployment shall be in flight; more than workers is fine"
        )
    parameters = {"config": config, "output": output}
    return lambda: DeployedLanes(deployment, parameters, name=recipe.name, lanes=lanes, logger=get_run_logger())
