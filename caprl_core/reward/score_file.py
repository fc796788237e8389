"""A JSONL of captions scored: one line out for each line in, in order, those that cannot be scored with a reason."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import IO, Any, NamedTuple

from caprl_core.data.files.reader import Files
from caprl_core.data.row import encode_line
from caprl_core.data.sources.json_rows import JsonRow, json_rows
from caprl_core.engines.protocol import Engine
from caprl_core.errors import BadInputError
from caprl_core.recipe.reward import RewardRecipe
from caprl_core.reward.cache import ReadingCache
from caprl_core.reward.questions import QuestionBank
from caprl_core.reward.reward import score_captions
from caprl_core.reward.score import CaptionToScore, Score
from caprl_core.shards.scratch import scratch_folder
from caprl_core.storage.store import Store

CHUNK = 8192
"""Captions scored together: 65,536 requests of 8 draws, so waiting for the last ones costs next to nothing."""


@dataclass(slots=True)
class Totals:
    """What a file came to."""

    captions: int = 0
    scored: int = 0
    reward: float = 0.0
    accuracy: float = 0.0
    measured: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)

    def add(self, score: Score) -> None:
        """Count a caption that was looked up."""
        if score.reward is not None:
            self.scored += 1
            self.reward += score.reward
        if score.accuracy is not None:
            self.measured += 1
            self.accuracy += score.accuracy
        self.outcomes.update(draw.outcome for draw in score.draws)
        if score.reason is not None:
            self.reasons[score.reason] += 1

    def as_json(self) -> dict[str, Any]:
        """Means over captions, shares over draws; null where there is nothing to divide by.

        mean_reward is over captions with a reward; abstained and unread are shares of the answered draws, failed is the
        share of all draws; without_reward counts captions by reason.
        """
        draws = self.outcomes.total()
        answered = draws - self.outcomes["failed"]
        return {
            "captions": self.captions,
            "scored": self.scored,
            "mean_reward": _ratio(self.reward, self.scored),
            "accuracy": _ratio(self.accuracy, self.measured),
            "abstained": _ratio(self.outcomes["abstained"], answered),
            "unread": _ratio(self.outcomes["unread"], answered),
            "failed": _ratio(self.outcomes["failed"], draws),
            "draws": draws,
            "without_reward": dict(sorted(self.reasons.items())),
        }


class _Line(NamedTuple):
    """A row, and the caption in it or the reason why there is none to score."""

    row: JsonRow
    caption: CaptionToScore | None
    reason: str


async def score_file(
    captions: str,
    out: str,
    questions: QuestionBank,
    engine: Engine,
    recipe: RewardRecipe,
    *,
    step: int = 0,
    progress: Callable[[int], None] = lambda _: None,
) -> Totals:
    """Score the rows of `captions` (JSON lines or array, local or `s3://`) into the JSONL `out`; `engine` is started.

    A row has `key`, or `image` as the question set names it, and `caption`; optionally `rollout`, `tokens` (or
    `completion_tokens`) and `truncated` (or `finish_reason`). `out` appears whole or not at all. `progress` is told the
    number of rows done. Raises `BadInputError` for files that cannot be read, `EngineDeadError`, `StoreError`.
    """
    folder, _, name = out.rpartition("/")
    if not name or folder in ("s3:", "s3:/"):
        raise BadInputError(f"{out}: name the file to write, like scores.jsonl or s3://bucket/scores.jsonl")
    totals = Totals()
    cache = ReadingCache(recipe.execution.cache_entries)
    with scratch_folder(None) as scratch:
        with (scratch / name).open("wb") as file:
            for lines in _chunks(captions, questions, recipe):
                wanted = [line.caption for line in lines if line.caption is not None]
                scores = iter(await score_captions(wanted, questions, engine, recipe, step, cache=cache))
                _write(file, lines, scores, totals)
                progress(totals.captions)
        store = Store(folder or ("/" if out.startswith("/") else str(Path.cwd())), recipe.execution.storage)
        store.put_file(name, scratch / name)
    return totals


def _write(file: IO[bytes], lines: list[_Line], scores: Iterator[Score], totals: Totals) -> None:
    for line in lines:
        totals.captions += 1
        kept: dict[str, Any] = {
            name: line.row.value[name] for name in ("key", "image", "rollout") if name in line.row.value
        }
        if line.caption is None:
            totals.reasons[line.reason.partition(":")[0]] += 1
            file.write(encode_line({**kept, "reward": None, "accuracy": None, "reason": line.reason}))
        else:
            score = next(scores)
            totals.add(score)
            file.write(encode_line({**kept, **score.as_json()}))


def _chunks(uri: str, questions: QuestionBank, recipe: RewardRecipe) -> Iterator[list[_Line]]:
    files = Files(recipe.execution.storage)
    try:
        lines = (_line(row, questions) for row in json_rows(files, uri))
        while chunk := list(islice(lines, CHUNK)):
            yield chunk
    finally:
        files.close()


def _line(row: JsonRow, questions: QuestionBank) -> _Line:
    if row.problem is not None:
        return _Line(row, None, f"bad_row: {row.problem}")
    value = row.value
    caption, key, image = (value.get(name) for name in ("caption", "key", "image"))
    if not isinstance(caption, str):
        return _Line(row, None, f"no_caption: {row.where}: `caption` is no text")
    if not isinstance(key, str) and not isinstance(image, str):
        return _Line(row, None, f"no_key: {row.where}: neither `key` nor `image`")
    if not isinstance(key, str) or key not in questions:
        found = questions.key_of(image) if isinstance(image, str) else None
        if found is None:
            return _Line(row, None, f"no_questions: nothing is asked about {key if isinstance(key, str) else image}")
        key = found
    tokens = next((value[name] for name in ("tokens", "completion_tokens") if _is_count(value.get(name))), None)
    truncated = value.get("truncated") is True or value.get("finish_reason") == "length"
    rollout = value["rollout"] if _is_count(value.get("rollout")) else 0
    return _Line(row, CaptionToScore(key, caption, rollout, tokens, truncated), "")


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _ratio(part: float, whole: int) -> float | None:
    return part / whole if whole else None
