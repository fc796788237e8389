"""What a new revision of a shard takes over from the one before: rows, rejections, attempts used and tar members."""

import hashlib
import io
import tarfile
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import orjson
import pyarrow.parquet as pq

from caprl_core.data.row import Result
from caprl_core.errors import StoreError
from caprl_core.storage.commit import CommitRecord
from caprl_core.storage.publish import locate, read_object
from caprl_core.storage.store import Store


class PreviousRevision:
    """The results kept, and where their bytes are. Thread-safe."""

    def __init__(self, kept: Mapping[str, Result], attempts: Mapping[str, int], tar: Path | None) -> None:
        self.kept = kept
        self._attempts = attempts
        self._tar = tar
        self._members: dict[str, tuple[int, int]] | None = None
        self._lock = threading.Lock()

    def attempts(self, key: str) -> int:
        """Attempts a sample has used: they count over revisions, so that no seed is used twice."""
        return self._attempts.get(key, 0)

    def member(self, row: Mapping[str, Any]) -> bytes | None:
        """The bytes of a row's image from the previous tar; None if the row is not from there.

        A sample may be kept as rejected and yet have a row in the log: an attempt that was asked to redo other reasons
        wrote it.
        """
        kept = self.kept.get(row["key"])
        if self._tar is None or kept is None or kept.row is None:
            return None
        with self._lock:
            if self._members is None:
                with tarfile.open(self._tar) as tar:
                    self._members = {item.name: (item.offset_data, item.size) for item in tar}
            offset, size = self._members[row["image_file"]]
            with self._tar.open("rb") as file:
                file.seek(offset)
                return file.read(size)


def nothing_before() -> PreviousRevision:
    """The first revision of a shard takes over nothing."""
    return PreviousRevision({}, {}, None)


def read_results(store: Store, record: CommitRecord) -> dict[str, Result]:
    """Every result of a committed unit, by key, in plan order."""
    ledger = pq.read_table(io.BytesIO(read_object(store, record.object("ledger")))).to_pylist()
    rows = {row["key"]: row for row in map(orjson.loads, read_object(store, record.object("jsonl")).splitlines())}
    return {line["key"]: Result(line["key"], line["index"], line, rows.get(line["key"])) for line in ledger}


def take_over(
    store: Store, record: CommitRecord, again: Callable[[Mapping[str, Any]], bool], folder: Path
) -> PreviousRevision:
    """Keep all of a committed unit but the rejected samples whose ledger line `again` selects.

    The tar is brought to `folder`, a local scratch folder that must outlive the result.
    """
    results = read_results(store, record)
    kept = {key: result for key, result in results.items() if not (result.rejected and again(result.ledger))}
    attempts = {key: int(result.ledger["attempt"]) for key, result in results.items()}
    path = folder / f"{record.unit}.tar"
    tar = record.object("tar")
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for chunk in store.stream(locate(store, tar)):
            file.write(chunk)
            digest.update(chunk)
    if digest.hexdigest() != tar.sha256:
        raise StoreError(
            f"{store.uri}/{tar.final_key} does not have the sha256 of its commit: restore it from a backup or a "
            "download before its rejected samples are redone"
        )
    return PreviousRevision(kept, attempts, path)
