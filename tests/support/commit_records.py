"""Commit records of shards that nobody has worked."""

from typing import Any

from caprl_core.storage.commit import CommitRecord, Usage
from caprl_core.storage.layout import Unit


def commit_record(unit: Unit, samples: int = 1, rejected: int = 0, **changes: Any) -> CommitRecord:
    """Without objects, of a first attempt in which `rejected` samples had an empty caption; `changes` by field."""
    values: dict[str, Any] = {
        "dataset": "d",
        "stage": "caption",
        "fingerprint": "f",
        "supersedes": None,
        "attempt": "a",
        "reasons": {"empty": rejected} if rejected else {},
        "attempts": {"1": samples - rejected},
        "objects": (),
        "usage": Usage(),
        "created": "2026-01-01T00:00:00+00:00",
    }
    return CommitRecord(
        shard=unit.shard,
        revision=unit.revision,
        samples=samples,
        rows=samples - rejected,
        rejected=rejected,
        **values | changes,
    )
