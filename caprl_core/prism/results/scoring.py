"""From the judge's rows to flat columns: one row a scored answer, small enough to hold 400,000 of them in memory."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import orjson
import pyarrow as pa

from caprl_core.errors import BadInputError
from caprl_core.prism.benchmarks import scorer_of
from caprl_core.prism.question import BenchmarkQuestion
from caprl_core.prism.scorers.released import released_points
from caprl_core.recipe.prism import BenchmarkRecipe

SCORING_VERSION = 1
"""Raised whenever the same replies get other points or other columns; part of a result's id."""
CUT = "length"
"""The finish reason of a text that ended at its limit of tokens."""

CHOICES = frozenset({"choice", "choice_or_abstain"})
"""Scorers that read a letter, or that the judge abstains."""

_NAME = pa.dictionary(pa.int32(), pa.string())

SCORES = pa.schema(
    [
        pa.field("benchmark", _NAME, nullable=False),
        pa.field("image", _NAME, nullable=False),  # the sample's key
        pa.field("question", _NAME, nullable=False),  # its id, unique within the benchmark
        pa.field("asked", _NAME, nullable=False),  # digest of the question's text, options and right answers
        pa.field("caption", pa.int16(), nullable=False),  # 0-based
        pa.field("scorer", _NAME, nullable=False),
        pa.field("points", pa.float64()),  # 0 to 1; null where the request failed
        pa.field("released_points", pa.float64()),  # null also where the benchmark has no released scoring
        pa.field("read", pa.string()),  # null where no answer was found in the reply
        pa.field("failed", pa.bool_(), nullable=False),
        pa.field("caption_tokens", pa.int32()),
        pa.field("caption_characters", pa.int32(), nullable=False),
        pa.field("caption_truncated", pa.bool_()),  # null where nothing tells
        pa.field("judge_tokens", pa.int32(), nullable=False),
        pa.field("judge_truncated", pa.bool_(), nullable=False),
    ]
)
"""One row an answer, in the order of the dataset: what is needed to compare runs and to count again."""

CAPTIONS = pa.schema(
    [
        pa.field("benchmark", _NAME, nullable=False),
        pa.field("image", _NAME, nullable=False),
        pa.field("tokens", pa.int32()),
        pa.field("characters", pa.int32(), nullable=False),
        pa.field("truncated", pa.bool_()),
    ]
)
"""One row a caption."""


class Scored(NamedTuple):
    """answers: `SCORES`; captions: `CAPTIONS`; engines: names and versions of the engines that judged."""

    answers: pa.Table
    captions: pa.Table
    engines: tuple[str, ...]


def score_rows(shards: Iterable[Iterable[Mapping[str, Any]]], benchmarks: Sequence[BenchmarkRecipe]) -> Scored:
    """Score the rows of all shards of a judge's dataset; one shard at a time is held beside the columns.

    A failed request is a missing value: null points, `failed` set. Raises `BadInputError` for a row of a benchmark that
    is not among `benchmarks`.
    """
    known = {benchmark.name: benchmark for benchmark in benchmarks}
    answers: list[pa.RecordBatch] = []
    captions: list[pa.RecordBatch] = []
    engines: set[str] = set()
    for shard in shards:
        answer_rows: list[tuple[Any, ...]] = []
        caption_rows: list[tuple[Any, ...]] = []
        for row in shard:
            benchmark = known.get(row["benchmark"])
            if benchmark is None:
                raise BadInputError(
                    f"sample {row['key']}: benchmark {row['benchmark']!r} is not in the recipe, which has "
                    f"{', '.join(known)}; score it with the recipe it was judged by"
                )
            engines.add(f"{row['engine']} {row['engine_version']}")
            facts = [_caption(caption) for caption in row["captions"]]
            caption_rows += [(benchmark.name, row["key"], *fact) for fact in facts]
            for fields in row["questions"]:
                answer_rows += _answers(benchmark, row["key"], fields, facts)
        answers.append(_batch(answer_rows, SCORES))
        captions.append(_batch(caption_rows, CAPTIONS))
    return Scored(
        pa.Table.from_batches(answers, schema=SCORES).unify_dictionaries().combine_chunks(),
        pa.Table.from_batches(captions, schema=CAPTIONS).unify_dictionaries().combine_chunks(),
        tuple(sorted(engines)),
    )


def _answers(
    benchmark: BenchmarkRecipe, key: str, fields: Mapping[str, Any], captions: Sequence[tuple[Any, ...]]
) -> list[tuple[Any, ...]]:
    question = BenchmarkQuestion.of(fields)
    scorer = scorer_of(benchmark, question)
    about = (benchmark.name, key, question.id, _digest(question))
    found = []
    for number, (reply, caption) in enumerate(zip(fields["replies"], captions, strict=True)):
        points = released = read = None
        failed = reply["failure"] is not None
        if not failed:
            verdict = scorer.score(question, reply["reply"])
            points, read = verdict.points, verdict.read
            if benchmark.released is not None:
                released = released_points(benchmark.released, question.answers, reply["reply"]).points
        spent = (reply["tokens"], reply["finish_reason"] == CUT)
        found.append((*about, number, scorer.name, points, released, read, failed, *caption, *spent))
    return found


def _caption(caption: Mapping[str, Any]) -> tuple[int | None, int, bool | None]:
    reason = caption["finish_reason"]
    return caption["tokens"], len(caption["text"]), None if reason is None else reason == CUT


def _digest(question: BenchmarkQuestion) -> str:
    fields = question.as_json()
    said = [fields[name] for name in ("text", "options", "answers", "system")]
    return hashlib.sha256(orjson.dumps(said)).hexdigest()[:16]


def _batch(rows: Sequence[tuple[Any, ...]], schema: pa.Schema) -> pa.RecordBatch:
    columns = zip(*rows, strict=True) if rows else [()] * len(schema)
    return pa.record_batch(
        [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)], schema=schema
    )
