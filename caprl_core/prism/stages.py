"""The recipes of the two stages of a Prism evaluation, each a dataset of its own below the evaluation's output."""

import hashlib
import re
from typing import Any

from caprl_core.recipe.models import (
    CaptionFileRecipe,
    EngineRecipe,
    Execution,
    SourceKind,
    SourceRecipe,
    StageExecution,
    StageRecipe,
)
from caprl_core.recipe.prism import BenchmarkRecipe, CaptionerRecipe, PrismJudgeRecipe, PrismRecipe

CAPTIONS, JUDGE = "captions", "judge"
"""Folders of the stages."""

FOLDER_CHARACTERS = 40
"""Of a name in the name of a folder."""

_KINDS: dict[str, SourceKind] = {
    "released": "benchmark_released",
    "questions": "benchmark_questions",
    "captionqa": "benchmark_captionqa",
}


class WrittenCaptionsRecipe(EngineRecipe):
    """A dataset of captions that a captioner writes of a benchmark's images."""

    captioner: CaptionerRecipe


class TakenCaptionsRecipe(StageRecipe):
    """A dataset of captions taken from a file."""


class JudgeStageRecipe(EngineRecipe):
    """A dataset of replies to a benchmark's questions."""

    judge: PrismJudgeRecipe


def benchmark_source(benchmark: BenchmarkRecipe, recipe: PrismRecipe) -> SourceRecipe:
    """The source of a benchmark: an image a record."""
    return SourceRecipe(
        name=benchmark.name,
        kind=_KINDS[benchmark.form],
        uri=benchmark.uri,
        roots=benchmark.images,
        limit=benchmark.limit,
        captions=recipe.captions,
    )


def caption_recipe(recipe: PrismRecipe) -> WrittenCaptionsRecipe | TakenCaptionsRecipe:
    """Images of the benchmarks to captions, by a captioner or from a file."""
    fields: dict[str, Any] = {
        "name": f"{recipe.name}-{CAPTIONS}",
        "sources": tuple(benchmark_source(benchmark, recipe) for benchmark in recipe.benchmarks),
        "dataset": recipe.dataset,
        "image": recipe.image,
    }
    execution = _execution(recipe, CAPTIONS)
    if recipe.captioner is None or recipe.execution.captioner is None:
        return TakenCaptionsRecipe(**fields, execution=StageExecution(**execution))
    return WrittenCaptionsRecipe(
        **fields,
        model=recipe.captioner.model,
        captioner=recipe.captioner,
        execution=Execution(**execution, engine=recipe.execution.captioner),
    )


def judge_recipe(recipe: PrismRecipe, upstream: str) -> JudgeStageRecipe:
    """Captions to replies; `upstream` is the fingerprint of the dataset of captions."""
    source = SourceRecipe(
        name=CAPTIONS,
        kind="stage_rows",
        uri=_folder(recipe, CAPTIONS),
        roots={"": f"{_folder(recipe, CAPTIONS)}/shards"},
        upstream=upstream,
    )
    return JudgeStageRecipe(
        name=f"{recipe.name}-{JUDGE}",
        sources=(source,),
        dataset=recipe.dataset,
        model=recipe.judge.model,
        judge=recipe.judge,
        execution=Execution(**_execution(recipe, JUDGE), engine=recipe.execution.judge),
    )


def judged_file(recipe: PrismRecipe, captions: CaptionFileRecipe) -> PrismRecipe:
    """The same benchmarks and judge for the captions of a file, in a folder below the evaluation's output."""
    slug = re.sub(r"[^a-z0-9]+", "-", captions.name.lower()).strip("-")[:FOLDER_CHARACTERS] or "captions"
    digest = hashlib.sha256(captions.name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    output = f"{recipe.execution.output.rstrip('/')}/files/{slug}-{digest}"
    execution = recipe.execution.model_copy(update={"output": output, "captioner": None})
    return recipe.model_copy(update={"captioner": None, "captions": captions, "execution": execution})


def _execution(recipe: PrismRecipe, stage: str) -> dict[str, Any]:
    fields = {name: getattr(recipe.execution, name) for name in StageExecution.model_fields}
    return fields | {"output": _folder(recipe, stage)}


def _folder(recipe: PrismRecipe, stage: str) -> str:
    return f"{recipe.execution.output.rstrip('/')}/{stage}"
