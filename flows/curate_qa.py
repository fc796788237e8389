"""The curation flow: images to blocks, blocks to questions, questions to votes, votes to a verified set.

Each stage is a dataset of its own on the shard runner; running the flow again resumes at the sample in whichever stage
it ended. `python -m flows.curate_qa --config FILE` runs it in this process.
"""

if __name__ == "__main__":
    # Before Prefect is imported: it reads its settings and sets up logging at that moment.
    from flows.command_line import curate_qa_command

    curate_qa_command()

from collections.abc import Callable, Sequence
from typing import Any

from prefect import flow
from prefect.task_runners import ThreadPoolTaskRunner

from caprl_core.engines.none import NoEngine
from caprl_core.engines.open import open_engine
from caprl_core.errors import BadInputError
from caprl_core.qa.answer import AnswerStage
from caprl_core.qa.extract import ExtractStage
from caprl_core.qa.generate import GenerateStage
from caprl_core.recipe.load import load_qa_recipe
from caprl_core.recipe.models import StageRecipe
from caprl_core.recipe.qa import QaRecipe
from caprl_core.recipe.qa_stages import answer_recipe, extract_recipe, generate_recipe
from caprl_core.recipe.relocate import relocated
from caprl_core.shards.dataset import open_dataset
from caprl_core.storage.store import Store
from flows.run_names import named_by
from flows.shard_run import MAX_IN_FLIGHT
from flows.whole_dataset import run_dataset
from tasks.curation import curate_questions

STAGES = ("generate", "extract", "answer", "filter")


@flow(
    name="curate-qa",
    flow_run_name=named_by(load_qa_recipe),
    task_runner=ThreadPoolTaskRunner(max_workers=MAX_IN_FLIGHT),  # type: ignore[arg-type]
    persist_result=False,
)
def curate_qa(config: str, output: str | None = None, stages: list[str] | None = None) -> dict[str, Any]:
    """Curate a question set as its recipe says, or what is left of it. Returns a summary of each stage.

    `config` is a recipe file, `output` replaces its `execution.output`, `stages` names those to run (default: all).
    """
    recipe = relocated(load_qa_recipe(config), output)
    wanted = _wanted(stages, recipe)
    runs: dict[str, Callable[[QaRecipe], dict[str, Any]]] = {
        "generate": _generate,
        "extract": _extract,
        "answer": _answer,
        "filter": curate_questions,
    }
    summaries = {stage: runs[stage](recipe) for stage in wanted}
    lines = [_line(stage, summary) for stage, summary in summaries.items()]
    return {"name": recipe.name, "uri": recipe.execution.output, "stages": summaries, "lines": lines}


def _wanted(stages: Sequence[str] | None, recipe: QaRecipe) -> list[str]:
    if unknown := set(stages or ()) - set(STAGES):
        raise BadInputError(f"stages: no {', '.join(sorted(unknown))}; there are {', '.join(STAGES)}")
    if recipe.imports and "generate" in (stages or ()):
        raise BadInputError(f"{recipe.name} starts from imported blocks or questions: nothing is to be generated")
    return [stage for stage in STAGES if stage in (stages or STAGES) and not (stage == "generate" and recipe.imports)]


def _generate(recipe: QaRecipe) -> dict[str, Any]:
    own = generate_recipe(recipe)
    return run_dataset("curate-qa-generate", own, stage=GenerateStage(own), open_engine=lambda: open_engine(own))


def _extract(recipe: QaRecipe) -> dict[str, Any]:
    own = extract_recipe(recipe, None if recipe.imports else _fingerprint(generate_recipe(recipe)))
    stage = ExtractStage(own, image_use="kept" if recipe.imports else "unread")
    return run_dataset("curate-qa-extract", own, stage=stage, open_engine=NoEngine)


def _answer(recipe: QaRecipe) -> dict[str, Any]:
    upstream = None if recipe.imports else _fingerprint(generate_recipe(recipe))
    own = answer_recipe(recipe, _fingerprint(extract_recipe(recipe, upstream)))
    return run_dataset("curate-qa-answer", own, stage=AnswerStage(own), open_engine=lambda: open_engine(own))


def _fingerprint(upstream: StageRecipe) -> str:
    """Of the dataset the stage before made; it must be there and of this recipe."""
    return open_dataset(Store(upstream.execution.output, upstream.execution.storage), upstream).record.fingerprint


def _line(stage: str, summary: dict[str, Any]) -> str:
    if stage == "filter":
        return f"filter: {summary['kept']:,} of {summary['questions']:,} questions kept, in {summary['uri']}"
    return (
        f"{stage}: {summary['samples_done']:,} of {summary['samples']:,} images done; this run: "
        f"{summary['rows']:,} rows, {summary['rejected']:,} rejected, {summary['samples_resumed']:,} resumed, "
        f"{summary['samples_asked']:,} worked"
    )
