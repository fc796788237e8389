"""A bucket in memory with conditional create, whose properties are checked after every change."""

import hashlib
from typing import Any

import obstore
from obstore.store import MemoryStore

from caprl_core.storage.commit import CommitRecord
from caprl_core.storage.layout import COMMITS, SHARDS
from caprl_core.storage.store import Store


class MemoryBacked(Store):
    """The store's own code over objects in memory: as `If-None-Match` works there, so it does on S3."""

    def __init__(self, objects: MemoryStore) -> None:
        self.uri, self.is_local = "memory://bucket", False
        self._store: Any = objects


class WatchedBucket:
    """What was broken, if anything, goes to `violations`.

    Checked after every write, copy and delete: a commit never changes and never goes (P2, P3); whatever lies under a
    final name is what a commit says (nothing unpublished is seen, P3); and every committed object can be read (P1).
    """

    def __init__(self, start: dict[str, bytes], violations: list[str]) -> None:
        self.objects = MemoryStore()
        self.violations = violations
        self._commits: dict[str, bytes] = {}
        self._records: dict[str, CommitRecord] = {}
        self._digests: dict[tuple[str, str], str] = {}
        for key, data in start.items():
            obstore.put(self.objects, key, data)

    def check(self, action: str, key: str) -> None:
        """After an operation took effect, and before anybody else does anything."""
        if action == "put" and not key.startswith((COMMITS, SHARDS)):
            return
        if action not in ("put", "create", "copy", "delete"):
            return
        there = {item["path"]: str(item["e_tag"]) for page in obstore.list(self.objects) for item in page}
        what = f"after {action} {key}"
        for name in [name for name in there if name.startswith(f"{COMMITS}/")]:
            data = bytes(obstore.get(self.objects, name).bytes())
            if name not in self._commits:
                self._commits[name] = data
                self._records[name] = CommitRecord.model_validate_json(data)
            elif self._commits[name] != data:
                self._broken(f"{what}: {name} changed")
        for name in self._commits.keys() - there.keys():
            self._broken(f"{what}: {name} is gone")
        committed = [item for record in self._records.values() for item in record.objects]
        sha256 = {item.final_key: item.sha256 for item in committed}
        for name in [name for name in there if name.startswith(f"{SHARDS}/")]:
            if name not in sha256:
                self._broken(f"{what}: {name} is visible, and no commit names it")
            elif self._digest(name, there) != sha256[name]:
                self._broken(f"{what}: {name} is not what was committed")
        for item in committed:
            if item.final_key not in there and self._digest(item.attempt_key, there) != item.sha256:
                self._broken(f"{what}: {item.final_key} is committed and lies nowhere")

    def _digest(self, name: str, there: dict[str, str]) -> str | None:
        if name not in there:
            return None
        version = (name, there[name])
        if version not in self._digests:
            self._digests[version] = hashlib.sha256(bytes(obstore.get(self.objects, name).bytes())).hexdigest()
        return self._digests[version]

    def _broken(self, what: str) -> None:
        if what not in self.violations:
            self.violations.append(what)
