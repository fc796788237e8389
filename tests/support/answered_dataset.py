"""Committed datasets of the curation's stages, written by the storage layer's own functions from rows made by hand."""

import hashlib
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from caprl_core.data.row import Result
from caprl_core.qa.question import LETTERS, Question, question_fields, question_id
from caprl_core.shards.dataset import Dataset, DatasetRecord, open_dataset
from caprl_core.shards.pack import pack
from caprl_core.storage.commit import CommitRecord, CommittedObject, Usage, commit
from caprl_core.storage.layout import DATASET, Attempt, Unit
from caprl_core.storage.publish import publish
from caprl_core.storage.store import Store

NOBODY = dict.fromkeys(("model", "revision", "engine", "engine_version", "prompt_id", "attempt"))
SOMEBODY = {
    "model": "test/writer", "revision": "abc", "engine": "openai", "engine_version": "1", "prompt_id": "five",
    "attempt": 1,
}  # fmt: skip


class _Text:
    """All that packing asks of a stage."""

    def text(self, fields: Mapping[str, Any]) -> str:
        return str(fields["key"])


def votes(right: int, wrong: int = 0, failed: int = 0, order: str = "ABCD") -> list[dict[str, Any]]:
    """Right votes, then wrong ones, then failed requests."""

    def vote(correct: bool, failure: str | None = None) -> dict[str, Any]:
        letter = None if failure else "A" if correct else "B"
        return {
            "order": order, "letter": letter, "correct": correct, "reply": letter or "", "gold_p": None,
            "failure": failure,
        }  # fmt: skip

    return [
        *(vote(True) for _ in range(right)),
        *(vote(False) for _ in range(wrong)),
        *(vote(False, "server said 500") for _ in range(failed)),
    ]


def probabilities(*values: float) -> list[dict[str, Any]]:
    """Votes of the logprob mode."""
    return [
        {"order": "ABCD", "letter": "A", "correct": p > 0.5, "reply": "", "gold_p": p, "failure": None} for p in values
    ]


def asked(
    key: str,
    number: int,
    visual: Sequence[dict[str, Any]],
    text: Sequence[dict[str, Any]],
    *,
    stem: str | None = None,
    options: Sequence[str] = ("red", "green", "blue", "white"),
    gold: int = 0,
) -> dict[str, Any]:
    """A question of an answer row."""
    question = Question(stem or f"What colour is thing {number}?", tuple(options), gold)
    return {
        "id": question_id(key, question),
        **question_fields(question),
        "visual": list(visual),
        "text": list(text),
    }


def answer_row(key: str, questions: Sequence[dict[str, Any]], **changes: Any) -> dict[str, Any]:
    """A row of the answer stage, with the columns the filter and what follows it read."""
    return {
        "key": key,
        "source": "questions",
        "image": f"set-generate-000000.tar#{key}.png",
        "record_id": None,
        "image_sha256": hashlib.sha256(key.encode()).hexdigest(),
        "model": "test/answerer",
        "model_revision": None,
        "engine": "openai",
        "engine_version": "2",
        "prompt_id": "letter",
        "attempt": 1,
        "questions": list(questions),
        "writer": SOMEBODY,
        **changes,
    }


def extract_row(key: str, questions: Sequence[dict[str, Any]], refused: Sequence[str] = ()) -> dict[str, Any]:
    """A row of the extract stage: questions without their votes, and refused pieces by reason."""
    return {
        "key": key,
        "questions": [{name: one[name] for name in ("id", "stem", "options", "answer")} for one in questions],
        "refused": [
            {"number": len(questions) + number, "reason": reason, "detail": "", "text": "#### a piece"}
            for number, reason in enumerate(refused, start=1)
        ],
        "writer": SOMEBODY,
    }


def rejected(key: str, reason: str) -> tuple[str, str]:
    """A sample with a reason instead of a row."""
    return key, reason


def committed(
    uri: str,
    stage: str,
    shards: Sequence[Sequence[dict[str, Any] | tuple[str, str]]],
    *,
    pending: int = 0,
    rotations: int = 4,
) -> Dataset:
    """A dataset with these shards committed and published, and `pending` samples in one more that is not."""
    store = Store(uri)
    name = f"set-{stage}"
    record = DatasetRecord(
        name=name,
        stage=stage,
        fingerprint=hashlib.sha256(name.encode()).hexdigest(),
        identity={"name": name, "answerer": {"rotations": rotations}},
        plan_key="plan/none.parquet",
        plan_sha256="0" * 64,
        samples=sum(len(shard) for shard in shards) + pending,
        shards=len(shards) + (pending > 0),
        created="2026-01-01T00:00:00+00:00",
    )
    store.put(DATASET, record.model_dump_json().encode())
    dataset = open_dataset(store)
    for number, samples in enumerate(shards):
        commit_shard(dataset, Unit(number, 0), samples)
    return dataset


def commit_shard(dataset: Dataset, unit: Unit, samples: Sequence[dict[str, Any] | tuple[str, str]]) -> CommitRecord:
    """Pack, commit and publish one shard revision."""
    attempt = Attempt.begin(unit)
    results = [_result(index, sample) for index, sample in enumerate(samples)]
    reasons = Counter(str(result.ledger["reason"]) for result in results if result.rejected)
    with tempfile.TemporaryDirectory() as folder:
        objects = pack(results, lambda _: b"", _Text(), Path(folder))  # type: ignore[arg-type]
        for item in objects:
            dataset.store.put_file(attempt.object_key(item.role), item.path)
    record = CommitRecord(
        dataset=dataset.record.name,
        stage=dataset.record.stage,
        fingerprint=dataset.record.fingerprint,
        shard=unit.shard,
        revision=unit.revision,
        supersedes=unit.revision - 1 if unit.revision else None,
        attempt=attempt.id,
        samples=len(results),
        rows=len(results) - reasons.total(),
        rejected=reasons.total(),
        reasons=dict(reasons),
        attempts={"1": len(results) - reasons.total()},
        objects=tuple(
            CommittedObject(
                role=item.role,  # type: ignore[arg-type]
                attempt_key=attempt.object_key(item.role),
                final_key=unit.final_key(dataset.record.name, item.role),
                size=item.size,
                sha256=item.sha256,
            )
            for item in objects
        ),
        usage=Usage(),
        created="2026-01-01T00:00:00+00:00",
    )
    commit(dataset.store, record)
    publish(dataset.store, record)
    return record


def _result(index: int, sample: dict[str, Any] | tuple[str, str]) -> Result:
    row = sample if isinstance(sample, dict) else None
    key, reason = (sample["key"], None) if isinstance(sample, dict) else sample
    ledger = {
        "key": key, "index": index, "source": "questions", "image": "x", "status": "row" if row else "rejected",
        "reason": reason, "detail": None, "attempt": 1, "earlier": [], "finish_reason": None, "prompt_tokens": 0,
        "completion_tokens": 0, "latency_s": 0.0, "image_sha256": None, "image_size": None,
    }  # fmt: skip
    return Result(key, index, ledger, row)


def letters(question: dict[str, Any]) -> str:
    """The right option's text by letter, to see that shuffling changes nothing but places."""
    return str(question["options"][LETTERS.index(question["answer"])])
