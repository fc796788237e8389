"""Rollouts: captions of a step with their questions, answers, reward and advantage; kept as parquet."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from caprl_core.data.row import clean_text
from caprl_core.qa.question import LETTERS, Question
from caprl_core.qa.rotation import order_of
from caprl_core.reward.score import Score

DRAW = pa.struct(
    [
        pa.field("question_id", pa.string()),
        pa.field("stem", pa.string()),
        pa.field("options", pa.list_(pa.string())),  # as shown, A first
        pa.field("gold", pa.string()),  # the letter under which the right option was shown
        pa.field("letter", pa.string()),  # what the reader named, or null
        pa.field("outcome", pa.string()),  # right, wrong, abstained, unread, failed
        pa.field("reply", pa.string()),
    ]
)
ROLLOUT = pa.schema(
    [
        pa.field("step", pa.int32()),
        pa.field("key", pa.string()),
        pa.field("rollout", pa.int16()),
        pa.field("caption", pa.string()),
        pa.field("tokens", pa.int32()),
        pa.field("truncated", pa.bool_()),
        pa.field("reward", pa.float64()),  # null: no reward, see reason
        pa.field("accuracy", pa.float64()),
        pa.field("advantage", pa.float64()),
        pa.field("reason", pa.string()),
        pa.field("terms", pa.list_(pa.struct([pa.field("name", pa.string()), pa.field("value", pa.float64())]))),
        pa.field("draws", pa.list_(DRAW)),
    ]
)


@dataclass(frozen=True, slots=True)
class Rollout:
    """A caption and what it earned.

    tokens:    of the policy, the end token not counted.
    truncated: cut at the token limit.
    """

    key: str
    caption: str
    tokens: int
    truncated: bool
    score: Score


def rollout_rows(
    step: int,
    rollouts: Sequence[Rollout],
    numbers: Sequence[int],
    questions: dict[str, dict[str, Question]],
    *,
    abstain: str | None,
    advantages: Sequence[float] | None = None,
) -> pa.Table:
    """The rows of a step. `numbers` are the captions' places in their groups, `questions` those of each key by id."""
    rows = []
    for place, (one, number) in enumerate(zip(rollouts, numbers, strict=True)):
        score = one.score
        rows.append(
            {
                "step": step,
                "key": one.key,
                "rollout": number,
                "caption": one.caption,
                "tokens": one.tokens,
                "truncated": one.truncated,
                "reward": score.reward,
                "accuracy": score.accuracy,
                "advantage": None if advantages is None else advantages[place],
                "reason": score.reason,
                "terms": [{"name": name, "value": value} for name, value in score.terms.items()],
                "draws": [
                    _draw(questions[one.key][draw.question_id], draw.order, abstain)
                    | {
                        "question_id": draw.question_id,
                        "letter": draw.letter,
                        "outcome": draw.outcome,
                        "reply": draw.reply,
                    }
                    for draw in score.draws
                ],
            }
        )
    # A reply may hold what UTF-8 cannot carry: escaped halves of a pair in a server's JSON.
    return pa.Table.from_pylist(clean_text(rows), schema=ROLLOUT)


def write_rollouts(table: pa.Table, path: Path) -> None:
    """Write a step's rows; the file appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    pq.write_table(table, partial, compression="zstd")
    partial.replace(path)


def _draw(question: Question, order_letters: str, abstain: str | None) -> dict[str, object]:
    order = order_of(order_letters)
    shown = [question.options[place] if place >= 0 else abstain for place in order]
    return {"stem": question.stem, "options": shown, "gold": LETTERS[order.index(question.gold)]}
