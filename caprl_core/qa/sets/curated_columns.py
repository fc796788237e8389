"""The columns of a curated set: kept questions with their texts and evidence, and the verdict on every question."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import pyarrow as pa
import pyarrow.parquet as pq

from caprl_core.qa.filter import Evidence, Verdict, arranged
from caprl_core.qa.question import LETTERS
from caprl_core.qa.rows import WRITER

ANSWERER = pa.struct(
    [pa.field(name, pa.string()) for name in ("model", "revision", "engine", "engine_version", "prompt_id")]
)
"""Who answered."""


def _evidence_fields(branch: str) -> list[pa.Field]:
    return [
        pa.field(f"{branch}_accuracy", pa.float64()),  # 0 to 1; null without a vote that counts
        pa.field(f"{branch}_correct", pa.int32()),
        pa.field(f"{branch}_votes", pa.int32()),  # replies that count
        pa.field(f"{branch}_failed", pa.int32()),  # requests that failed
        pa.field(f"{branch}_low", pa.float64()),  # ends of the interval; null where no interval can be given
        pa.field(f"{branch}_high", pa.float64()),
    ]


_EVIDENCE = [*_evidence_fields("visual"), *_evidence_fields("text"), pa.field("blind_chance", pa.float64())]

KEPT = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("id", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("record_id", pa.string()),
        pa.field("image", pa.string(), nullable=False),
        pa.field("image_sha256", pa.string(), nullable=False),
        pa.field("stem", pa.string(), nullable=False),
        pa.field("options", pa.list_(pa.string()), nullable=False),  # curated order, without letters
        pa.field("answer", pa.string(), nullable=False),  # letter in the curated order
        pa.field("written_answer", pa.string(), nullable=False),  # letter in the writer's order
        *_EVIDENCE,
        pa.field("writer", WRITER, nullable=False),
        pa.field("answerer", ANSWERER, nullable=False),
    ]
)
"""One row a kept question; the questions of an image are neighbours."""

VERDICT = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("id", pa.string()),  # null for what extraction refused
        pa.field("number", pa.int32()),  # 1-based place in the block, of what extraction refused
        pa.field("kept", pa.bool_(), nullable=False),
        pa.field("reason", pa.string()),  # QuestionReason; null for a kept question
        pa.field("split", pa.string()),  # null for a question that was not kept
        *_EVIDENCE,
    ]
)
"""One row a question, kept or not, and one for each piece of a block that became none."""


class KeptQuestion(NamedTuple):
    """A row of the answer dataset, one of its questions, and the verdict that keeps it."""

    row: Mapping[str, Any]
    question: Mapping[str, Any]
    verdict: Verdict


def kept_batch(kept: Sequence[KeptQuestion]) -> pa.RecordBatch:
    """`KEPT` rows."""
    columns = {
        **{name: [row[name] for row, _, _ in kept] for name in ("key", "source", "record_id", "image", "image_sha256")},
        "id": [question["id"] for _, question, _ in kept],
        "stem": [question["stem"] for _, question, _ in kept],
        "options": [arranged(question, verdict.place) for _, question, verdict in kept],
        "answer": [LETTERS[verdict.place] for _, _, verdict in kept],
        "written_answer": [question["answer"] for _, question, _ in kept],
        "writer": [row["writer"] for row, _, _ in kept],
        "answerer": [_answerer(row) for row, _, _ in kept],
        **_evidence_columns([verdict for _, _, verdict in kept]),
    }
    return _batch(columns, KEPT)


def verdict_batch(keys: Sequence[str], verdicts: Sequence[Verdict]) -> pa.RecordBatch:
    """`VERDICT` rows of questions: `keys` are their images' keys, one a verdict."""
    columns = {
        "key": keys,
        "id": [verdict.id for verdict in verdicts],
        "number": [None] * len(verdicts),
        "kept": [verdict.reason is None for verdict in verdicts],
        "reason": [verdict.reason for verdict in verdicts],
        "split": [verdict.split for verdict in verdicts],
        **_evidence_columns(verdicts),
    }
    return _batch(columns, VERDICT)


def refused_batch(
    keys: Sequence[str], ids: Sequence[str | None], numbers: Sequence[int | None], reasons: Sequence[str]
) -> pa.RecordBatch:
    """`VERDICT` rows of what was never answered: either an id or a place in the block each."""
    count = len(keys)
    columns: dict[str, Sequence[Any]] = {name: [None] * count for name in VERDICT.names}
    columns |= {"key": keys, "id": ids, "number": numbers, "kept": [False] * count, "reason": reasons}
    return _batch(columns, VERDICT)


def _batch(columns: Mapping[str, Sequence[Any]], schema: pa.Schema) -> pa.RecordBatch:
    return pa.record_batch([pa.array(columns[field.name], field.type) for field in schema], schema=schema)


def _evidence_columns(verdicts: Sequence[Verdict]) -> dict[str, Sequence[Any]]:
    columns: dict[str, Sequence[Any]] = {"blind_chance": [verdict.blind_chance for verdict in verdicts]}
    for branch, found in (("visual", [v.visual for v in verdicts]), ("text", [v.text for v in verdicts])):
        transposed = zip(*found, strict=True) if found else [()] * len(Evidence._fields)
        columns |= {f"{branch}_{name}": values for name, values in zip(Evidence._fields, transposed, strict=True)}
    return columns


def _answerer(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "model": row["model"],
        "revision": row["model_revision"],
        "engine": row["engine"],
        "engine_version": row["engine_version"],
        "prompt_id": row["prompt_id"],
    }


class RowGroups:
    """A parquet file of row groups of `rows` rows, whatever the size of the batches that come. A context manager."""

    def __init__(self, path: Path, schema: pa.Schema, rows: int) -> None:
        self._writer = pq.ParquetWriter(path, schema, compression="zstd")
        self._schema = schema
        self._size = rows
        self._waiting: list[pa.RecordBatch] = []
        self._held = 0
        self.rows = 0

    def __enter__(self) -> Self:
        """The file is open."""
        return self

    def write(self, batch: pa.RecordBatch) -> None:
        """Append rows."""
        self._waiting.append(batch)
        self._held += batch.num_rows
        self.rows += batch.num_rows
        if self._held >= self._size:
            table = self._table()
            whole = self._held - self._held % self._size
            self._writer.write_table(table.slice(0, whole), row_group_size=self._size)
            self._waiting = table.slice(whole).to_batches()
            self._held -= whole

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Write what is left, unless the block failed, and close the file."""
        if self._held and kind is None:
            self._writer.write_table(self._table())
        self._writer.close()

    def _table(self) -> pa.Table:
        return pa.Table.from_batches(self._waiting, schema=self._schema).combine_chunks()
