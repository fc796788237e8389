"""The recipe of a Prism evaluation: whose captions, which benchmarks, who judges."""

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from caprl_core.recipe.models import (
    EXECUTION,
    CaptionFileRecipe,
    DatasetRecipe,
    DeduplicateRecipe,
    EngineExecution,
    ImageRecipe,
    ModelRecipe,
    PromptRecipe,
    SamplingRecipe,
    Slug,
    StageExecution,
    Strict,
)
from caprl_core.recipe.reward import CAPTION, QUESTION
from caprl_core.recipe.shipped_prompts import shipped_in, shipped_prompt

_PROMPTS = "caprl_core.prism"
ShippedPrompt = Annotated[PromptRecipe, BeforeValidator(shipped_in(_PROMPTS))]
"""A prompt written out, or the name of one in `caprl_core/prism/prompts`."""

ScorerName = Literal["choice", "choice_or_abstain", "relaxed", "anls", "math", "match", "exact"]
ReleasedScoring = Literal["math", "chart", "info"]
"""Which of the three scorings of the released script a benchmark gets there (fact sheet 4: by words in its path)."""


class BenchmarkRecipe(Strict):
    """One benchmark: questions about images, and how replies to them are scored."""

    name: Slug = Field(max_length=24, description="Name of the benchmark, as in every table.")
    form: Literal["released", "questions", "captionqa"] = Field(
        description="Released evaluation files; our plain form (image, question, options or not, answers); CaptionQA."
    )
    uri: str = Field(description="JSON or JSON lines, local, `s3://` or `https://`.", json_schema_extra=EXECUTION)
    images: dict[str, str] = Field(
        default_factory=dict,
        description="Where image paths lie: longest matching path prefix -> folder, `s3://` prefix, zip or tar.",
        json_schema_extra=EXECUTION,
    )
    limit: int | None = Field(default=None, ge=1, description="Take only the first N images.")
    scorer: ScorerName = Field(description="How replies are scored.")
    open_scorer: ScorerName | None = Field(
        default=None, description="Scorer of questions whose answer is no letter, where a benchmark has both kinds."
    )
    released: ReleasedScoring | None = Field(
        default=None, description="What the released script scores it by, for the figures beside ours; None shows none."
    )


class CaptionerRecipe(Strict):
    """Who writes the captions, and how many of each image."""

    model: ModelRecipe
    # The evaluation script leaves out the final full stop that training has (fact sheet 7, defect 34).
    prompt: PromptRecipe = Field(
        default_factory=lambda: PromptRecipe(id="describe", text="Please describe this image in detail."),
        description="What it is asked.",
    )
    # gen_num, temperature and length of the released script (fact sheet 4).
    captions: int = Field(default=4, ge=1, le=64, description="Captions of each image (gen_num).")
    sampling: SamplingRecipe = Field(default_factory=SamplingRecipe)


class JudgeSampling(SamplingRecipe):
    """How the judge's replies are drawn: greedy, so that the same captions have the same score."""

    temperature: float = Field(default=0.0, ge=0, description="Softmax temperature; 0 is greedy.")


class PrismJudgeRecipe(Strict):
    """The text-only model that answers from a caption."""

    model: ModelRecipe
    prompt: ShippedPrompt = Field(
        default_factory=lambda: shipped_prompt(_PROMPTS, "judge-choice-v1"),
        description="For questions of options: name of a shipped prompt, or your own; {caption} before {question}.",
    )
    open_prompt: ShippedPrompt = Field(
        default_factory=lambda: shipped_prompt(_PROMPTS, "judge-open-v1"), description="For all other questions."
    )
    sampling: JudgeSampling = Field(default_factory=JudgeSampling)
    abstain: str | None = Field(
        default=None, min_length=1, description="Text of a last, never right option; None offers none."
    )

    @model_validator(mode="after")
    def _caption_first(self) -> Self:
        for name, prompt in (("prompt", self.prompt), ("open_prompt", self.open_prompt)):
            before, question, after = prompt.text.partition(QUESTION)
            if not question or before.count(CAPTION) != 1 or CAPTION in after or QUESTION in after:
                raise ValueError(
                    f"judge.{name}.text: it needs {CAPTION} once and then {QUESTION} once, so that all questions about "
                    "a caption share their beginning"
                )
        return self


class IntervalsRecipe(Strict):
    """How intervals are made: images are drawn again, with all their questions and captions."""

    level: float = Field(default=0.95, gt=0.5, lt=1, description="Confidence of the intervals.")
    draws: int = Field(default=10_000, ge=100, le=1_000_000, description="Bootstrap draws.")
    seed: int = Field(default=0, ge=0, description="Seed of the draws.")


class PrismExecution(StageExecution):
    """Where and how the evaluation runs; `output` is the folder of both stages and of the results."""

    captioner: EngineExecution | None = Field(default=None, description="Engine of the captioner; None with a file.")
    judge: EngineExecution = Field(description="Engine of the judge.")


class PrismRecipe(Strict):
    """A Prism evaluation: a captioner's captions, or those of a file, judged on benchmarks."""

    name: Slug = Field(max_length=28, description="Name of the evaluation.")
    benchmarks: tuple[BenchmarkRecipe, ...] = Field(min_length=1, description="Benchmarks, in the order of the tables.")
    captioner: CaptionerRecipe | None = Field(default=None, description="Who writes the captions.")
    captions: CaptionFileRecipe | None = Field(default=None, description="Or where they are already.")
    image: ImageRecipe = Field(default_factory=ImageRecipe)
    judge: PrismJudgeRecipe
    intervals: IntervalsRecipe = Field(default_factory=IntervalsRecipe, json_schema_extra=EXECUTION)
    # An image is one sample with all its questions: an image of a chart benchmark has 2 to 4 of them.
    dataset: DatasetRecipe = Field(
        default_factory=lambda: DatasetRecipe(shard_samples=200, deduplicate=DeduplicateRecipe(by="none"))
    )
    execution: PrismExecution = Field(json_schema_extra=EXECUTION)

    @property
    def captions_of(self) -> str:
        """Whose captions are judged, as tables say it."""
        if self.captioner is not None:
            return self.captioner.model.name
        return self.captions.name if self.captions is not None else ""

    @model_validator(mode="after")
    def _parts_agree(self) -> Self:
        names = [benchmark.name for benchmark in self.benchmarks]
        if len(set(names)) != len(names):
            raise ValueError(f"benchmarks: names must differ, got {names}")
        if (self.captioner is None) == (self.captions is None):
            raise ValueError("captioner, captions: name one of them")
        if (self.captioner is None) != (self.execution.captioner is None):
            raise ValueError("captioner and execution.captioner come together")
        return self


__all__ = [
    "BenchmarkRecipe",
    "CaptionFileRecipe",
    "CaptionerRecipe",
    "IntervalsRecipe",
    "PrismExecution",
    "PrismJudgeRecipe",
    "PrismRecipe",
    "ReleasedScoring",
    "ScorerName",
]
