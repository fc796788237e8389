"""The evaluation flow: captions of benchmark images (by a captioner or from a file), a judge's answers, scores.

Both stages are datasets on the shard runner; running the flow again resumes at the sample in whichever it ended.
`python -m flows.evaluate_captions --config FILE` runs it in this process.
"""

if __name__ == "__main__":
    # Before Prefect is imported: it reads its settings and sets up logging at that moment.
    from flows.command_line import evaluate_captions_command

    evaluate_captions_command()

from collections.abc import Callable
from typing import Any

from prefect import flow
from prefect.task_runners import ThreadPoolTaskRunner

from caprl_core.engines.none import NoEngine
from caprl_core.engines.open import open_engine
from caprl_core.errors import BadInputError
from caprl_core.prism.caption_stage import TakenCaptionsStage, WrittenCaptionsStage
from caprl_core.prism.judge_stage import JudgeStage
from caprl_core.prism.stages import WrittenCaptionsRecipe, caption_recipe, judge_recipe, judged_file
from caprl_core.recipe.load import load_prism_recipe
from caprl_core.recipe.models import CaptionFileRecipe
from caprl_core.recipe.prism import PrismRecipe
from caprl_core.recipe.relocate import relocated
from caprl_core.shards.dataset import open_dataset
from caprl_core.storage.store import Store
from flows.run_names import named_by
from flows.shard_run import MAX_IN_FLIGHT
from flows.whole_dataset import run_dataset
from tasks.evaluation import check_questions, score_captions

STAGES = ("captions", "judge", "score")


@flow(
    name="evaluate-captions",
    flow_run_name=named_by(load_prism_recipe),
    task_runner=ThreadPoolTaskRunner(max_workers=MAX_IN_FLIGHT),  # type: ignore[arg-type]
    persist_result=False,
)
def evaluate_captions(
    config: str,
    output: str | None = None,
    stages: list[str] | None = None,
    captions: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Evaluate captions as a recipe says, or what is left of it. Returns a summary of each stage.

    `config` is a recipe file, `output` replaces its `execution.output`, `stages` names those to run (default: all).
    `captions` are the fields of a caption file that is judged instead of whatever the recipe would judge, in a folder
    of its own below the output.
    """
    recipe = relocated(load_prism_recipe(config), output)
    if captions is not None:
        recipe = judged_file(recipe, CaptionFileRecipe.model_validate(captions))
    if unknown := set(stages or ()) - set(STAGES):
        raise BadInputError(f"stages: no {', '.join(sorted(unknown))}; there are {', '.join(STAGES)}")
    check_questions(recipe)
    runs: dict[str, Callable[[PrismRecipe], dict[str, Any]]] = {
        "captions": _captions,
        "judge": _judge,
        "score": score_captions,
    }
    summaries = {stage: runs[stage](recipe) for stage in STAGES if stage in (stages or STAGES)}
    lines = [line for stage, summary in summaries.items() for line in _lines(stage, summary)]
    return {"name": recipe.name, "uri": recipe.execution.output, "stages": summaries, "lines": lines}


def _captions(recipe: PrismRecipe) -> dict[str, Any]:
    own = caption_recipe(recipe)
    name = "evaluate-captions-captions"
    if isinstance(own, WrittenCaptionsRecipe):
        return run_dataset(name, own, stage=WrittenCaptionsStage(own), open_engine=lambda: open_engine(own))
    return run_dataset(name, own, stage=TakenCaptionsStage(), open_engine=NoEngine)


def _judge(recipe: PrismRecipe) -> dict[str, Any]:
    upstream = caption_recipe(recipe)
    captions = open_dataset(Store(upstream.execution.output, upstream.execution.storage), upstream)
    own = judge_recipe(recipe, captions.record.fingerprint)
    leads = recipe.captioner.captions if recipe.captioner is not None else 1
    stage = JudgeStage(own, leads)
    return run_dataset("evaluate-captions-judge", own, stage=stage, open_engine=lambda: open_engine(own))


def _lines(stage: str, summary: dict[str, Any]) -> list[str]:
    if stage == "score":
        return list(summary["lines"])
    return [
        f"{stage}: {summary['samples_done']:,} of {summary['samples']:,} images done; this run: "
        f"{summary['rows']:,} rows, {summary['rejected']:,} rejected, {summary['samples_resumed']:,} resumed, "
        f"{summary['samples_asked']:,} worked"
    ]
