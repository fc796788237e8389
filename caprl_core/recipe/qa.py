"""The recipe of a curated question set: who writes the questions, who answers them, which are kept."""

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from caprl_core.recipe.models import (
    EXECUTION,
    DatasetRecipe,
    EngineExecution,
    ImageRecipe,
    ModelRecipe,
    PromptRecipe,
    SamplingRecipe,
    Slug,
    SourceRecipe,
    StageExecution,
    Strict,
)
from caprl_core.recipe.shipped_prompts import shipped_in, shipped_prompt

IMPORTED: tuple[str, ...] = ("qa_blocks", "qa_lists", "caprl_qa")
"""Source kinds that bring blocks or questions with them: such a recipe starts at extraction."""


_PROMPTS = "caprl_core.qa"
ShippedPrompt = Annotated[PromptRecipe, BeforeValidator(shipped_in(_PROMPTS))]
"""A prompt written out, or the name of a shipped one."""


class WriterRecipe(Strict):
    """The large model that writes questions."""

    model: ModelRecipe
    prompt: ShippedPrompt = Field(
        default_factory=lambda: shipped_prompt(_PROMPTS, "five-questions-v1"),
        description="Name of a shipped prompt, or one of your own (id, text, system).",
    )
    # Sampling of the released generator (fact sheet 1.1).
    sampling: SamplingRecipe = Field(
        default_factory=lambda: SamplingRecipe(temperature=0.1, repetition_penalty=1.05, max_tokens=2048)
    )
    max_attempts: int = Field(default=2, ge=1, le=10, description="Attempts at an image's block.")


class ExtractRecipe(Strict):
    """Which questions of a block are taken over."""

    parser: Literal["block-1"] = Field(
        default="block-1", description="Version of the parser and its checks; another one reads other questions."
    )
    min_options: int = Field(default=2, ge=2, le=6, description="Options of a question at least.")
    max_options: int = Field(default=6, ge=2, le=6, description="Options of a question at most.")
    max_questions: int = Field(default=20, ge=1, description="Questions of one image at most; later ones are refused.")


class ConfidenceRecipe(Strict):
    """Keep asking questions that are undecided."""

    level: float = Field(default=0.9, gt=0.5, lt=1, description="Confidence of the intervals, 0.5 to 1.")
    budget: int = Field(default=24, ge=1, le=64, description="Rotations of one question and branch at most.")


class AnswererRecipe(Strict):
    """The small model that answers them, with and without the image."""

    model: ModelRecipe
    prompt: ShippedPrompt = Field(
        default_factory=lambda: shipped_prompt(_PROMPTS, "answer-letter-v1"),
        description="Name of a shipped prompt, or one of your own; `{question}` in its text is the question.",
    )
    # Sampling of the released answering script (fact sheet 1.1), whose 4 tokens cut "The answer is C." short.
    sampling: SamplingRecipe = Field(
        default_factory=lambda: SamplingRecipe(temperature=0.1, repetition_penalty=1.05, max_tokens=16)
    )
    rotations: int = Field(default=4, ge=1, le=64, description="Orders of the options each question is asked in.")
    mode: Literal["sampled", "logprob"] = Field(
        default="sampled",
        description="Read a letter from a reply, or the letters' probabilities from one forward pass a rotation.",
    )
    visual_extra: str | None = Field(
        default="None of the above", description="Further, never right option of the branch with the image."
    )
    text_extra: str | None = Field(default=None, description="Further, never right option of the branch without it.")
    confidence: ConfidenceRecipe | None = Field(
        default=None, description="Ask undecided questions again until an interval clears its threshold."
    )


class FilterRecipe(Strict):
    """Which questions survive."""

    # Thresholds of the released recipe (fact sheet 1.1, step 4).
    visual_above: float = Field(default=0.75, ge=0, le=1, description="Accuracy with the image must exceed this.")
    visual_inclusive: bool = Field(default=False, description="Or equal it.")
    text_below: float = Field(default=0.25, ge=0, le=1, description="Accuracy without the image must be below this.")
    text_inclusive: bool = Field(default=False, description="Or equal it.")
    confident: bool = Field(
        default=False, description="Ask that the intervals clear the thresholds, not only the measured accuracies."
    )
    level: float = Field(default=0.9, gt=0.5, lt=1, description="Confidence of the reported intervals.")
    per_image: int | None = Field(default=None, ge=1, description="Kept questions of one image at most; None is all.")
    balance: Literal["keep", "shuffle"] = Field(
        default="shuffle", description="Leave the options in the writer's order, or put the gold at a seeded place."
    )
    held_out: float = Field(default=0.0, ge=0, lt=1, description="Share of the images set apart for evaluation.")
    decontaminate: str | None = Field(
        default=None,
        description="File with one sha256 (hex) a line of images that must not be trained on; its content is identity.",
        json_schema_extra=EXECUTION,
    )
    seed: int = Field(default=0, ge=0, description="Seed of places and of the split.")


class QaExecution(StageExecution):
    """Where and how the curation runs; `output` is the folder of all its stages."""

    writer: EngineExecution | None = Field(default=None, description="Engine of the writer; None starts from blocks.")
    answerer: EngineExecution = Field(description="Engine of the answerer.")


class QaRecipe(Strict):
    """A curated question set."""

    name: Slug = Field(max_length=28, description="Name of the set; the stages' files are called after it.")
    sources: tuple[SourceRecipe, ...] = Field(min_length=1, description="Sources of images, blocks or questions.")
    dataset: DatasetRecipe = Field(default_factory=DatasetRecipe)
    image: ImageRecipe = Field(default_factory=ImageRecipe)
    writer: WriterRecipe | None = Field(default=None, description="None where the sources bring blocks or questions.")
    extract: ExtractRecipe = Field(default_factory=ExtractRecipe)
    answerer: AnswererRecipe
    filter: FilterRecipe = Field(default_factory=FilterRecipe)
    execution: QaExecution = Field(json_schema_extra=EXECUTION)

    @property
    def imports(self) -> bool:
        """True when the sources bring blocks or questions: nothing is to be generated."""
        return self.sources[0].kind in IMPORTED

    @model_validator(mode="after")
    def _sources_agree(self) -> Self:
        names = [source.name for source in self.sources]
        if len(set(names)) != len(names):
            raise ValueError(f"sources: names must differ, got {names}")
        if len({source.kind in IMPORTED for source in self.sources}) > 1:
            raise ValueError("sources: images to ask about and imported questions cannot be mixed; make two sets")
        if self.imports == (self.writer is not None):
            wanted = "no writer" if self.imports else "a writer"
            raise ValueError(f"writer: sources of kind {self.sources[0].kind} need {wanted}")
        if (self.writer is None) != (self.execution.writer is None):
            raise ValueError("writer and execution.writer come together")
        return self


__all__ = ["IMPORTED", "AnswererRecipe", "ConfidenceRecipe", "ExtractRecipe", "FilterRecipe", "QaExecution", "QaRecipe"]
