"""`results.json`: what a run of Prism found, with all that decides whether it can be compared with another."""

from typing import Any, Literal

from pydantic import Field

from caprl_core.recipe.models import Strict
from caprl_core.recipe.prism import IntervalsRecipe

RESULT_VERSION = 1
"""Raised when a field of `results.json` changes its meaning."""


class Estimate(Strict):
    """A share, 0 to 1, with the ends of its interval; null where fewer than two images tell."""

    value: float
    low: float | None
    high: float | None


class BestOf(Strict):
    """What the best of `captions` captions drawn from an image's own earns a question, on average."""

    captions: int
    score: Estimate


class Lengths(Strict):
    """Of captions; null where no caption says (tokens of captions from a file)."""

    mean: float | None
    median: float | None


class CaptionFigures(Strict):
    """The captions a benchmark was judged by."""

    count: int
    least: int = Field(description="Captions of an image at least.")
    most: int = Field(description="Captions of an image at most.")
    tokens: Lengths
    characters: Lengths
    truncated: float | None = Field(description="Share cut at the captioner's limit of tokens; null where untold.")


class ImageFigures(Strict):
    """What became of a benchmark's images."""

    planned: int
    judged: int
    pending: int
    rejected: dict[str, dict[str, int]] = Field(description="Stage -> reason -> images.")


class BenchmarkResult(Strict):
    """One benchmark."""

    name: str
    scorer: str
    open_scorer: str | None
    released_scoring: str | None
    images: ImageFigures
    questions: int = Field(description="Questions with an answer that has points.")
    unanswered: int = Field(description="Questions all of whose requests failed.")
    answers: int = Field(description="Answers with points: questions x captions, less failed requests.")
    failed: int = Field(description="Requests that failed; neither right nor wrong.")
    unparsed: float | None = Field(description="Share of the answers in which no answer was found; they earn nothing.")
    abstained: float | None = Field(description="Share of the answers to questions of options that abstain.")
    judge_truncated: float | None = Field(description="Share of the answers cut at the judge's limit of tokens.")
    captions: CaptionFigures
    mean: Estimate | None
    best: Estimate | None = Field(description="Of all captions (BoN of the released script).")
    best_of: tuple[BestOf, ...]
    released_mean: Estimate | None = Field(description="By the released script's rules; null where it has none.")
    released_best: Estimate | None


class Macro(Strict):
    """Plain means over the benchmarks that have the figure."""

    benchmarks: int
    released_benchmarks: int
    mean: Estimate | None
    best: Estimate | None
    released_mean: Estimate | None
    released_best: Estimate | None


class JudgedBy(Strict):
    """The judge, as far as it decides a reply; runs of different ones cannot be compared."""

    model: dict[str, Any]
    prompt: dict[str, Any]
    open_prompt: dict[str, Any]
    sampling: dict[str, Any]
    abstain: str | None
    engines: tuple[str, ...] = Field(description="Engines and their versions, as the rows name them.")


class CaptionsFrom(Strict):
    """Whose captions: a captioner's, or those of a file."""

    kind: Literal["captioner", "file"]
    name: str
    captioner: dict[str, Any] | None = Field(description="Model, prompt, captions and sampling.")
    file: str | None = Field(description="Where the file lay.")
    file_sha256: str | None = Field(description="Null where it could not be read any more.")
    engines: tuple[str, ...]


class RunResult(Strict):
    """One run: everything but the single answers, which are in `scores.parquet` beside it."""

    version: int = RESULT_VERSION
    scoring_version: int
    id: str
    run: str = Field(description="Name of the recipe.")
    judged: str = Field(description="Time of the newest commit, ISO 8601, UTC.")
    partial: bool = Field(description="Images are pending: the figures will change.")
    captions: CaptionsFrom
    judge: JudgedBy
    intervals: IntervalsRecipe
    datasets: dict[str, str] = Field(description="Stage -> fingerprint of its dataset.")
    scores_sha256: str
    benchmarks: tuple[BenchmarkResult, ...]
    macro: Macro
