"""The recipes of the stages that one curated question set runs through, each a dataset of its own."""

from typing import Any

from pydantic import Field, model_validator

from caprl_core.recipe.models import (
    DatasetRecipe,
    DeduplicateRecipe,
    EngineExecution,
    EngineRecipe,
    Execution,
    GateExecution,
    SourceRecipe,
    StageExecution,
    StageRecipe,
    Strict,
)
from caprl_core.recipe.qa import AnswererRecipe, ExtractRecipe, FilterRecipe, QaRecipe, WriterRecipe

GENERATE, EXTRACT, ANSWER = "generate", "extract", "answer"
"""Folders of the stages below the set's output."""

PROCESSED_IMAGES_GB = 2
"""Room for about 80 prepared images of 1,280 visual tokens (24 MB each): an answerer is shown each image up to 40 times
at once, so vLLM's cache of them, off for the other stages, spares it 39 preparations."""


class GenerateRecipe(EngineRecipe):
    """A dataset of blocks: what the writer was asked and what it may do."""

    writer: WriterRecipe


class ExtractStageRecipe(StageRecipe):
    """A dataset of questions."""

    extract: ExtractRecipe = Field(default_factory=ExtractRecipe)


class ThresholdsRecipe(Strict):
    """The filter's thresholds, where they decide how often a question is asked; see `FilterRecipe`."""

    visual_above: float = Field(ge=0, le=1, description="Accuracy with the image must exceed this.")
    visual_inclusive: bool = Field(description="Or equal it.")
    text_below: float = Field(ge=0, le=1, description="Accuracy without the image must be below this.")
    text_inclusive: bool = Field(description="Or equal it.")


class AnswerStageRecipe(EngineRecipe):
    """A dataset of questions with every vote on them."""

    answerer: AnswererRecipe
    thresholds: ThresholdsRecipe | None = Field(
        default=None, description="Set exactly when answerer.confidence is: only then do they change what is asked."
    )

    @model_validator(mode="after")
    def _thresholds_agree(self) -> "AnswerStageRecipe":
        if (self.answerer.confidence is None) != (self.thresholds is None):
            raise ValueError("thresholds: set exactly when answerer.confidence is")
        return self


def generate_recipe(qa: QaRecipe) -> GenerateRecipe:
    """Images to blocks. Raises `ValueError` for a set whose sources bring blocks or questions."""
    if qa.writer is None or qa.execution.writer is None:
        raise ValueError(f"{qa.name} starts from blocks or questions: nothing is to be generated")
    return GenerateRecipe(
        name=f"{qa.name}-{GENERATE}",
        sources=qa.sources,
        dataset=qa.dataset,
        image=qa.image,
        model=qa.writer.model,
        writer=qa.writer,
        execution=Execution(**_stage_execution(qa, GENERATE), engine=qa.execution.writer),
    )


def extract_recipe(qa: QaRecipe, upstream: str | None) -> ExtractStageRecipe:
    """Blocks to questions; `upstream` is the fingerprint of the generated dataset, None for imported blocks."""
    return ExtractStageRecipe(
        name=f"{qa.name}-{EXTRACT}",
        sources=qa.sources if qa.imports else (_rows_of(qa, GENERATE, "blocks", GENERATE, upstream),),
        dataset=qa.dataset if qa.imports else _derived(qa),
        extract=qa.extract,
        execution=StageExecution(**_stage_execution(qa, EXTRACT)),
    )


def answer_recipe(qa: QaRecipe, upstream: str | None) -> AnswerStageRecipe:
    """Questions to votes; `upstream` is the fingerprint of the extracted dataset.

    An image without questions is no fault of this stage, so the gate lets any share of them pass unless told otherwise.
    """
    fields = _stage_execution(qa, ANSWER)
    gate = qa.execution.gate
    fields["gate"] = GateExecution(
        max_share={"no_question": 1.0} | gate.max_share, **gate.model_dump(exclude={"max_share"})
    )
    return AnswerStageRecipe(
        name=f"{qa.name}-{ANSWER}",
        # The images lie in the tars of the stage that read them from their sources.
        sources=(_rows_of(qa, EXTRACT, "questions", EXTRACT if qa.imports else GENERATE, upstream),),
        dataset=_derived(qa),
        # This stage keeps no image, so how kept ones are encoded is no part of it.
        image=qa.image.model_copy(update={"reencode": "none"}),
        model=qa.answerer.model,
        answerer=qa.answerer,
        thresholds=None if qa.answerer.confidence is None else _thresholds(qa.filter),
        execution=Execution(**fields, engine=_with_image_cache(qa.execution.answerer)),
    )


def _stage_execution(qa: QaRecipe, stage: str) -> dict[str, Any]:
    fields = {name: getattr(qa.execution, name) for name in StageExecution.model_fields}
    return fields | {"output": _folder(qa, stage)}


def _folder(qa: QaRecipe, stage: str) -> str:
    return f"{qa.execution.output.rstrip('/')}/{stage}"


def _rows_of(qa: QaRecipe, stage: str, name: str, images_of: str, upstream: str | None) -> SourceRecipe:
    return SourceRecipe(
        name=name,
        kind="stage_rows",
        uri=_folder(qa, stage),
        roots={"": f"{_folder(qa, images_of)}/shards"},
        upstream=upstream,
    )


def _derived(qa: QaRecipe) -> DatasetRecipe:
    """Every row of the stage before, as it is."""
    return qa.dataset.model_copy(update={"deduplicate": DeduplicateRecipe(by="none")})


def _thresholds(values: FilterRecipe) -> ThresholdsRecipe:
    return ThresholdsRecipe(**{name: getattr(values, name) for name in ThresholdsRecipe.model_fields})


def _with_image_cache(engine: EngineExecution) -> EngineExecution:
    if engine.kind != "vllm":
        return engine
    return engine.model_copy(update={"extra": {"mm_processor_cache_gb": PROCESSED_IMAGES_GB} | engine.extra})
