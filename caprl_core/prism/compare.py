"""Two runs on the same questions: which captions are worth more to the same judge, and how sure that is."""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import Field

from caprl_core.errors import BadInputError
from caprl_core.prism.results.best_of import Floats, answered, best_of
from caprl_core.prism.results.columns import benchmark_rows, grid_of, texts
from caprl_core.prism.results.intervals import Average, Interval, difference_intervals, per_image, resample
from caprl_core.prism.results.measuring import DIGITS, estimate
from caprl_core.prism.results.run_files import FoundRun, read_run
from caprl_core.prism.results.run_result import CaptionFigures, Estimate, RunResult
from caprl_core.recipe.identity import differences
from caprl_core.recipe.models import StorageExecution, Strict
from caprl_core.recipe.prism import IntervalsRecipe

Verdict = Literal["better", "worse", "undecided"]

_ALIKE = 1e-9
"""Of points: what differs by less is a tie."""


class Compared(Strict):
    """A benchmark, or the macro average; differences are the second run less the first."""

    name: str
    images: int
    questions: int = Field(description="With an answer in both runs.")
    unmatched: int = Field(description="Questions of either run without an answer in the other.")
    first: float = Field(description="Mean of the first run on these questions.")
    second: float
    difference: Estimate
    best_captions: int = Field(description="Captions the best is taken of: as many as both runs have.")
    best_difference: Estimate
    wins: int = Field(description="Questions on which the second run's captions earn more.")
    ties: int
    losses: int
    verdict: Verdict
    first_characters: float | None = Field(description="Mean length of all captions of the first run.")
    second_characters: float | None
    first_truncated: float | None = Field(description="Share cut at the limit of tokens; null where nothing tells.")
    second_truncated: float | None


class Comparison(Strict):
    """The second run against the first. forced: what differs between the runs although it decides the scores."""

    first: str
    second: str
    first_id: str
    second_id: str
    intervals: IntervalsRecipe
    forced: tuple[str, ...]
    benchmarks: tuple[Compared, ...]
    macro: Compared
    only_first: tuple[str, ...] = Field(description="Benchmarks that only the first run has.")
    only_second: tuple[str, ...]

    def not_worse(self, margin: float) -> bool:
        """Whether the second run is not worse than the first by more than `margin` (share, 0 to 1): the interval of the
        macro difference begins at or above -margin."""
        low = self.macro.difference.low
        return low is not None and low >= -margin


class _Joint(NamedTuple):
    """Questions of both runs, in the order of the first. images: [questions], of the first run, as codes."""

    first: Floats
    second: Floats
    images: npt.NDArray[Any]
    unmatched: int


def compare(first: str, second: str, *, force: bool = False, storage: StorageExecution | None = None) -> Comparison:
    """Compare two runs by their folders or `results.json`; the interval's settings are those of the first.

    Raises `BadInputError` for runs of other judges, prompts, scorers or questions, naming what differs, unless `force`;
    and for runs without a question in common.
    """
    return compare_runs(read_run(first, storage), read_run(second, storage), force=force)


def compare_runs(first: FoundRun, second: FoundRun, *, force: bool = False) -> Comparison:
    """The same of runs that are open."""
    ours, theirs = first.result, second.result
    scores, others = first.scores(), second.scores()
    names = [one.name for one in theirs.benchmarks]
    both = [one.name for one in ours.benchmarks if one.name in names]
    unlike = [*_unlike(ours, theirs, both), *_unlike_questions(scores, others, both)]
    if unlike and not force:
        raise BadInputError(
            f"{ours.captions.name} and {theirs.captions.name} were not scored alike:\n"
            + "\n".join(f"  {difference}" for difference in unlike)
            + "\nScore both the same way, or compare them all the same with force."
        )
    rules = ours.intervals
    average, found = Average(), []
    for name in both:
        joint = _joined(benchmark_rows(scores, name), benchmark_rows(others, name))
        if len(joint.images):
            found.append(_benchmark(name, joint, (_captions(ours, name), _captions(theirs, name)), rules, average))
    if not found:
        raise BadInputError(
            f"{ours.captions.name} and {theirs.captions.name}: no question has an answer in both runs; the first has "
            f"the benchmarks {', '.join(one.name for one in ours.benchmarks)}, the second {', '.join(names)}"
        )
    return Comparison(
        first=ours.captions.name,
        second=theirs.captions.name,
        first_id=ours.id,
        second_id=theirs.id,
        intervals=rules,
        forced=tuple(unlike),
        benchmarks=tuple(found),
        macro=_macro(found, average, rules),
        only_first=tuple(one.name for one in ours.benchmarks if one.name not in names),
        only_second=tuple(name for name in names if name not in both),
    )


def _unlike(ours: RunResult, theirs: RunResult, both: Sequence[str]) -> list[str]:
    """What decides the scores and differs: judge, prompts, sampling but its seed, scorers, version of the scoring."""
    return [str(difference) for difference in differences(_deciding(ours, both), _deciding(theirs, both))]


def _deciding(result: RunResult, both: Sequence[str]) -> dict[str, Any]:
    judge = result.judge.model_dump(mode="json", exclude={"engines"})
    judge["sampling"].pop("seed", None)
    scorers = {one.name: [one.scorer, one.open_scorer] for one in result.benchmarks if one.name in both}
    return {"judge": judge, "scorers": scorers, "scoring_version": result.scoring_version}


def _unlike_questions(scores: pa.Table, others: pa.Table, both: Sequence[str]) -> list[str]:
    found = []
    for name in both:
        one, other = (
            dict(zip(texts(rows.column("question")), texts(rows.column("asked")), strict=True))
            for rows in (benchmark_rows(scores, name), benchmark_rows(others, name))
        )
        changed = [question for question, asked in one.items() if other.get(question, asked) != asked]
        if changed:
            found.append(
                f"{name}: {len(changed)} questions have another text, options or answer, the first is {changed[0]!r}"
            )
    return found


def _captions(result: RunResult, name: str) -> CaptionFigures:
    return next(one.captions for one in result.benchmarks if one.name == name)


def _benchmark(
    name: str,
    joint: _Joint,
    captions: tuple[CaptionFigures, CaptionFigures],
    rules: IntervalsRecipe,
    average: Average,
) -> Compared:
    size = min(joint.first.shape[1], joint.second.shape[1])
    first, second = best_of(joint.first, 1), best_of(joint.second, 1)
    gain = second - first
    best = best_of(joint.second, size) - best_of(joint.first, size)
    found = resample(per_image(joint.images, np.stack([gain, best], axis=1)), rules, name)
    average.add(found)
    difference, best_difference = difference_intervals(found, rules.level)
    wins, losses = int((gain > _ALIKE).sum()), int((gain < -_ALIKE).sum())
    return Compared(
        name=name,
        images=len(np.unique(joint.images)),
        questions=len(gain),
        unmatched=joint.unmatched,
        first=round(float(first.mean()), DIGITS),
        second=round(float(second.mean()), DIGITS),
        difference=estimate(difference),
        best_captions=size,
        best_difference=estimate(best_difference),
        wins=wins,
        ties=len(gain) - wins - losses,
        losses=losses,
        verdict=_verdict(difference),
        first_characters=captions[0].characters.mean,
        second_characters=captions[1].characters.mean,
        first_truncated=captions[0].truncated,
        second_truncated=captions[1].truncated,
    )


def _joined(scores: pa.Table, others: pa.Table) -> _Joint:
    one, one_images = grid_of(scores, "points")
    other, _ = grid_of(others, "points")
    places = {question: place for place, question in enumerate(dict.fromkeys(texts(others.column("question"))))}
    own = list(dict.fromkeys(texts(scores.column("question"))))
    matched = [(place, places[question]) for place, question in enumerate(own) if question in places]
    left = np.asarray([pair[0] for pair in matched], np.int64)
    right = np.asarray([pair[1] for pair in matched], np.int64)
    usable = answered(one[left]) & answered(other[right]) if len(left) else np.zeros(0, np.bool_)
    unmatched = len(own) + len(places) - 2 * int(usable.sum())
    left, right = left[usable], right[usable]
    return _Joint(one[left], other[right], one_images[left], unmatched)


def _macro(found: Sequence[Compared], average: Average, rules: IntervalsRecipe) -> Compared:
    joint = average.result()
    if joint is None:
        raise ValueError("no benchmark was added")
    difference, best_difference = difference_intervals(joint, rules.level)
    return Compared(
        name="macro average",
        images=sum(one.images for one in found),
        questions=sum(one.questions for one in found),
        unmatched=sum(one.unmatched for one in found),
        first=round(sum(one.first for one in found) / len(found), DIGITS),
        second=round(sum(one.second for one in found) / len(found), DIGITS),
        difference=estimate(difference),
        best_captions=min(one.best_captions for one in found),
        best_difference=estimate(best_difference),
        wins=sum(one.wins for one in found),
        ties=sum(one.ties for one in found),
        losses=sum(one.losses for one in found),
        verdict=_verdict(difference),
        first_characters=_mean([one.first_characters for one in found]),
        second_characters=_mean([one.second_characters for one in found]),
        first_truncated=_mean([one.first_truncated for one in found]),
        second_truncated=_mean([one.second_truncated for one in found]),
    )


def _mean(values: Sequence[float | None]) -> float | None:
    """Over benchmarks; None where one of them does not know."""
    known = [value for value in values if value is not None]
    return round(sum(known) / len(known), DIGITS) if known and len(known) == len(values) else None


def _verdict(difference: Interval) -> Verdict:
    if difference.low is not None and difference.low > 0:
        return "better"
    if difference.high is not None and difference.high < 0:
        return "worse"
    return "undecided"
