"""Commit records of shards that nobody has worked: for measurements of what reads them."""

import datetime as dt
from collections.abc import Mapping

from caprl_core.storage.commit import CommitRecord, CommittedObject, Usage
from caprl_core.storage.layout import ROLES, Attempt, Unit


def commit_record(
    fingerprint: str, unit: Unit, samples: int, contents: Mapping[str, tuple[int, str]], usage: Usage | None = None
) -> CommitRecord:
    """Of a shard of the dataset `bench` in which every sample is a row; `contents` are role -> (bytes, sha256)."""
    attempt = Attempt.begin(unit)
    return CommitRecord(
        dataset="bench",
        stage="caption",
        fingerprint=fingerprint,
        shard=unit.shard,
        revision=unit.revision,
        supersedes=None,
        attempt=attempt.id,
        samples=samples,
        rows=samples,
        rejected=0,
        reasons={},
        attempts={"1": samples},
        objects=tuple(
            CommittedObject(
                role=role,  # type: ignore[arg-type]
                attempt_key=attempt.object_key(role),
                final_key=unit.final_key("bench", role),
                size=contents[role][0],
                sha256=contents[role][1],
            )
            for role in ROLES
        ),
        usage=usage or Usage(),
        created=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
    )
