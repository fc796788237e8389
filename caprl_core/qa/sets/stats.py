"""What the report page tells of a curation, as counts that add up shard by shard."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Self

from caprl_core.qa.filter import Verdict
from caprl_core.qa.question import LETTERS
from caprl_core.qa.reasons import QuestionReason
from caprl_core.qa.sets.question_types import question_type

STEPS: tuple[tuple[str, QuestionReason], ...] = (
    ("answered", QuestionReason.UNANSWERED),
    ("visual_pass", QuestionReason.VISUAL_TOO_LOW),
    ("text_pass", QuestionReason.TEXT_TOO_HIGH),
    ("certain", QuestionReason.UNCERTAIN),
    ("clean", QuestionReason.CONTAMINATED),
    ("kept", QuestionReason.OVER_CAP),
)
"""The funnel's steps after extraction, in the order of the filter, and the reason that costs a question the step."""


@dataclass(frozen=True, slots=True)
class CurationStats:
    """Counts of questions where nothing else is said. `merged` adds two; `as_json` and `from_json` are inverse.

    rotations:       accuracies in the histogram are rounded to multiples of 1 / rotations.
    stages:          stage -> samples, rows, rejected, pending of its dataset; rejected: stage -> reason -> samples.
    refused:         extraction's reason -> pieces of blocks that became no question.
    parsed:          questions with a verdict; waiting: questions whose image has not been answered yet.
    reasons:         reason -> questions not kept.
    kept:            split -> questions; images_kept: split -> images with a kept question.
    kept_per_image:  at position n the images of which n questions were kept.
    histogram:       row: visual accuracy, column: text accuracy; both from 0 at position 0 to 1 at the last.
    gold_before:     letter -> kept questions with the answer there, as written; gold_after: as curated.
    types_answered:  `question_type` -> answered questions; types_kept: kept ones.
    votes:           replies that counted; failed_votes: requests that failed.
    blind_sum:       sum over the blind_count questions that have one of the chance that a blind guesser passes.
    expected_leaks:  questions passing the visual filter that blind guessing alone would take past the text filter.
    """

    rotations: int
    stages: dict[str, dict[str, int]] = field(default_factory=dict)
    rejected: dict[str, dict[str, int]] = field(default_factory=dict)
    refused: dict[str, int] = field(default_factory=dict)
    parsed: int = 0
    waiting: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    kept: dict[str, int] = field(default_factory=dict)
    images_kept: dict[str, int] = field(default_factory=dict)
    kept_per_image: tuple[int, ...] = ()
    histogram: tuple[tuple[int, ...], ...] = ()
    gold_before: dict[str, int] = field(default_factory=dict)
    gold_after: dict[str, int] = field(default_factory=dict)
    types_answered: dict[str, int] = field(default_factory=dict)
    types_kept: dict[str, int] = field(default_factory=dict)
    votes: int = 0
    failed_votes: int = 0
    blind_sum: float = 0.0
    blind_count: int = 0
    expected_leaks: float = 0.0

    @property
    def blind_pass_chance(self) -> float | None:
        """The mean chance that a blind guesser passes the text filter; None where no question has one."""
        return self.blind_sum / self.blind_count if self.blind_count else None

    @property
    def funnel(self) -> dict[str, int]:
        """Step -> what is left after it, in order: images and blocks, then questions."""
        first = next(iter(self.stages.values()), {})
        left = self.parsed
        steps = {
            "images": first.get("samples", 0),
            # A block is what the first stage wrote; imported ones are its samples that had no fault.
            "blocks": first.get("rows", 0),
            "written": self.parsed + self.waiting + sum(self.refused.values()),
            "parsed": self.parsed + self.waiting,
        }
        for step, reason in STEPS:
            left -= self.reasons.get(reason, 0)
            steps[step] = left
        return steps

    def merged(self, other: "CurationStats") -> "CurationStats":
        """Both together. Raises `ValueError` for histograms of different rotations."""
        if self.rotations != other.rotations:
            raise ValueError(f"histograms of {self.rotations} and {other.rotations} rotations do not add up")
        names = [item.name for item in fields(self) if item.name != "rotations"]
        return replace(self, **{name: _sum(getattr(self, name), getattr(other, name)) for name in names})

    def as_json(self) -> dict[str, Any]:
        """Plain values, the derived ones included."""
        return {**asdict(self), "funnel": self.funnel, "blind_pass_chance": self.blind_pass_chance}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """From what `as_json` gave. Raises `TypeError` or `KeyError` for anything else."""
        names = [item.name for item in fields(cls)]
        return cls(**{name: _tuples(values[name]) for name in names})


def stats_of(images: Iterable[tuple[Sequence[Mapping[str, Any]], Sequence[Verdict]]], rotations: int) -> CurationStats:
    """The stats of some images: of each its stored questions and their verdicts, in the same order."""
    reasons: Counter[str] = Counter()
    kept: Counter[str] = Counter()
    images_kept: Counter[str] = Counter()
    per_image: Counter[int] = Counter()
    cells: Counter[tuple[int, int]] = Counter()
    before: Counter[str] = Counter()
    after: Counter[str] = Counter()
    answered: Counter[str] = Counter()
    types_kept: Counter[str] = Counter()
    parsed = votes = failed = blind_count = 0
    blind_sum = leaks = 0.0
    for questions, verdicts in images:
        parsed += len(verdicts)
        keeps = 0
        for question, verdict in zip(questions, verdicts, strict=True):
            _, reason, split, visual, text, chance, place = verdict
            votes += visual.votes + text.votes
            failed += visual.failed + text.failed
            if reason is not None:
                reasons[reason.value] += 1
            if reason is QuestionReason.UNANSWERED or visual.accuracy is None or text.accuracy is None:
                continue
            cells[int(visual.accuracy * rotations + 0.5), int(text.accuracy * rotations + 0.5)] += 1
            kind = question_type(question["stem"], question["options"])
            answered[kind] += 1
            if chance is not None:
                blind_sum += chance
                blind_count += 1
                if reason is not QuestionReason.VISUAL_TOO_LOW:
                    leaks += chance
            if split is not None:
                keeps += 1
                kept[split] += 1
                types_kept[kind] += 1
                before[question["answer"]] += 1
                after[LETTERS[place]] += 1
        per_image[keeps] += 1
        if keeps:
            images_kept[next(verdict.split for verdict in verdicts if verdict.split is not None)] += 1
    return CurationStats(
        rotations=rotations,
        parsed=parsed,
        reasons=_sorted(reasons),
        kept=_sorted(kept),
        images_kept=_sorted(images_kept),
        kept_per_image=tuple(per_image[count] for count in range(max(per_image, default=-1) + 1)),
        histogram=tuple(tuple(cells[row, column] for column in range(rotations + 1)) for row in range(rotations + 1)),
        gold_before=_sorted(before),
        gold_after=_sorted(after),
        types_answered=_sorted(answered),
        types_kept=_sorted(types_kept),
        votes=votes,
        failed_votes=failed,
        blind_sum=blind_sum,
        blind_count=blind_count,
        expected_leaks=leaks,
    )


def _sorted(counts: Mapping[str, int]) -> dict[str, int]:
    return {name: counts[name] for name in sorted(counts)}


def _sum(one: Any, other: Any) -> Any:
    """Numbers are added, tables name by name, lists position by position."""
    if isinstance(one, dict):
        both = {name: _sum(one[name], other[name]) for name in one if name in other}
        return {**one, **other, **both} if _holds_tables(one, other) else _sorted({**one, **other, **both})
    if isinstance(one, tuple):
        short, long = sorted((one, other), key=len)
        return (*(_sum(left, right) for left, right in zip(short, long, strict=False)), *long[len(short) :])
    return one + other


def _holds_tables(*tables: Mapping[str, Any]) -> bool:
    """True for stages, which keep the order they run in; counts are sorted: the order of merging is not to be seen."""
    return any(isinstance(value, dict) for table in tables for value in table.values())


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list | tuple) else value
