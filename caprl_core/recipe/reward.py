"""The recipe of the reward: who reads the captions, how questions are drawn, what else counts; and of a judge."""

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from caprl_core.recipe.models import (
    EXECUTION,
    EngineExecution,
    ModelRecipe,
    PromptRecipe,
    SamplingRecipe,
    Slug,
    StorageExecution,
    Strict,
)
from caprl_core.recipe.shipped_prompts import shipped_in, shipped_prompt

_PROMPTS = "caprl_core.reward"
ShippedPrompt = Annotated[PromptRecipe, BeforeValidator(shipped_in(_PROMPTS))]
"""A prompt written out, or the name of one in `caprl_core/reward/prompts`."""

CAPTION, QUESTION = "{caption}", "{question}"
"""Where the caption and the question with its lettered options go in a reader's prompt."""


class ReaderSamplingRecipe(SamplingRecipe):
    """How a reader's replies are drawn."""

    # Of the released reward server (fact sheet 2.1, source S1).
    temperature: float = Field(default=0.6, ge=0, description="Softmax temperature; 0 is greedy.")
    max_tokens: int = Field(default=10, ge=1, description="Completion tokens at most.")
    seed: int = Field(default=0, ge=0, description="Base seed; each request's is derived from it and its content.")


class ReaderRecipe(Strict):
    """The text-only model that answers from a caption."""

    model: ModelRecipe
    prompt: ShippedPrompt = Field(
        default_factory=lambda: shipped_prompt(_PROMPTS, "read-caption-v1"),
        description="Name of a shipped prompt, or one of your own; `{caption}` must come before `{question}`.",
    )
    sampling: ReaderSamplingRecipe = Field(default_factory=ReaderSamplingRecipe)

    @model_validator(mode="after")
    def _caption_first(self) -> Self:
        before, question, after = self.prompt.text.partition(QUESTION)
        if not question or CAPTION not in before or QUESTION in after or self.prompt.text.count(CAPTION) > 1:
            raise ValueError(
                "reader.prompt.text: it needs {caption} once and then {question} once, so that all questions about a "
                "caption share their beginning"
            )
        return self


class LengthRecipe(Strict):
    """The length term: 1 up to `full` tokens, falling to 0 at `none`; a caption without visible text has 0."""

    # l1, l2 and beta of CapRL++ (fact sheet 2.3, source PPr; beta is its launch script's).
    full: int = Field(default=2048, ge=1, description="l1: captions up to so many tokens of the policy have 1.")
    none: int = Field(default=3072, ge=1, description="l2: captions of so many tokens or more have 0.")
    weight: float = Field(default=0.2, description="Weight of the term in the reward.")

    @model_validator(mode="after")
    def _falls(self) -> Self:
        if self.none <= self.full:
            raise ValueError(f"terms.length: none ({self.none}) must be larger than full ({self.full})")
        return self


class TermsRecipe(Strict):
    """reward = scale x (mean credit of the answered draws) + length.weight x length + format x format."""

    scale: float = Field(
        default=1.0, gt=0, description="Factor on the mean credit: 1 keeps it in [0, 1]; the released script has 2."
    )
    abstained: float = Field(default=0.0, ge=-1, le=1, description="Credit of a draw the reader would not answer.")
    wrong: float = Field(default=0.0, ge=-1, le=1, description="Credit of a wrong or unreadable draw; a right one: 1.")
    length: LengthRecipe | None = Field(default=None, description="Length term (CapRL++); None is off.")
    format: float = Field(
        default=0.0, description="Weight of the format term: 1, or 0 for chat tokens, self-praise or nothing at all."
    )
    truncated: Literal["reward", "nothing"] = Field(
        default="reward", description="What a caption cut at the token limit earns: its reward, or 0 without asking."
    )


class RewardExecution(Strict):
    """Where and how the reader runs."""

    engine: EngineExecution = Field(description="Engine of the reader.")
    retries: int = Field(
        default=2, ge=0, description="Times a request that failed for good is asked again at the end of the step."
    )
    cache_entries: int = Field(default=65_536, ge=0, description="Answers remembered; about 400 bytes each.")
    storage: StorageExecution = Field(default_factory=StorageExecution)


class RewardRecipe(Strict):
    """The CapRL reward: how well a reader answers questions about an image from its caption alone."""

    name: Slug = Field(default="reward", description="Name of the reward.")
    reader: ReaderRecipe
    # N: the released default (fact sheet 2.1); the paper's Table 5 saturates at 4.
    draws: int = Field(default=8, ge=1, le=64, description="N: questions drawn for each caption.")
    # With replacement: the paper's equation 3.
    replacement: bool = Field(
        default=True,
        description="Draw with replacement; without, a question comes once at most, so draws may be fewer.",
    )
    # The paper shuffles; the released launch script does not (fact sheet 7, defect 12).
    shuffle: bool = Field(default=True, description="Show the options of each draw in a random order.")
    abstain: str | None = Field(
        default="Cannot be answered from the description",
        min_length=1,
        description="Text of a last, never right option that lets the reader abstain; None offers none.",
    )
    min_answered: float = Field(
        default=0.5, ge=0, le=1, description="Share of a caption's draws that must be answered for it to have a reward."
    )
    seed: int = Field(default=0, ge=0, description="Seed of draws and orders.")
    terms: TermsRecipe = Field(default_factory=TermsRecipe)
    execution: RewardExecution = Field(json_schema_extra=EXECUTION)


class JudgeSamplingRecipe(SamplingRecipe):
    """How a judge's replies are drawn: greedy, with room for "Rating: 4" and its like (ours)."""

    temperature: float = Field(default=0.0, ge=0, description="Softmax temperature; 0 is greedy.")
    max_tokens: int = Field(default=8, ge=1, description="Completion tokens at most.")


class JudgeRecipe(Strict):
    """A baseline: a vision-language model that looks at the picture and rates the caption from 1 to 5."""

    name: Slug = Field(default="judge", description="Name of the baseline.")
    model: ModelRecipe
    prompt: ShippedPrompt = Field(
        default_factory=lambda: shipped_prompt(_PROMPTS, "judge-caption-v1"),
        description="Name of a shipped prompt, or one of your own; `{caption}` in its text is the caption.",
    )
    sampling: JudgeSamplingRecipe = Field(default_factory=JudgeSamplingRecipe)
    execution: RewardExecution = Field(json_schema_extra=EXECUTION)

    @model_validator(mode="after")
    def _names_the_caption(self) -> Self:
        if self.prompt.text.count(CAPTION) != 1:
            raise ValueError("prompt.text: it needs {caption} once")
        return self
