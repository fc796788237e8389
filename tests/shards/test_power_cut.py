"""What a power cut may take from a local folder: never the bytes that a commit names, nor a sample that is logged."""

import os
import stat
from pathlib import Path

import pytest

from caprl_core.shards.events import ShardEvent
from caprl_core.shards.verify import verify
from caprl_core.storage.commit import commit, list_units, read_commit
from caprl_core.storage.layout import ATTEMPTS, DATASET, Attempt, Unit
from caprl_core.storage.publish import publish, sweep
from support.commit_records import commit_record
from support.drawn_dataset import draw_pictures, lane_for, planned, recipe_for
from support.echo_engine import EchoEngine


class Disk:
    """What was synchronised: contents by inode, and names by folder. The rest may be gone after a power cut."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.contents: dict[int, tuple[int, int]] = {}
        """Inode -> its size and time of change when it was last synchronised."""
        self.names: set[tuple[int, str, int]] = set()
        """(inode of the folder, name, inode of what has that name)."""

    def note(self, number: int) -> None:
        """A file or folder, by its descriptor, was synchronised."""
        found = os.fstat(number)
        if stat.S_ISDIR(found.st_mode):
            folder = Path(f"/proc/self/fd/{number}").resolve()
            self.names |= {(found.st_ino, path.name, path.stat().st_ino) for path in folder.iterdir()}
        else:
            self.contents[found.st_ino] = (found.st_size, found.st_mtime_ns)

    def keeps(self, key: str) -> bool:
        """Whether an object would be whole and have its name after a power cut."""
        path = self.root / key
        if not path.exists():
            return False
        found = path.stat()
        if self.contents.get(found.st_ino) != (found.st_size, found.st_mtime_ns):
            return False
        below = [path, *(folder for folder in path.parents if folder != self.root and folder.is_relative_to(self.root))]
        return all((one.parent.stat().st_ino, one.name, one.stat().st_ino) in self.names for one in below)


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Disk:
    disk, real = Disk(tmp_path / "out"), os.fsync

    def noted(file: int) -> None:
        real(file)
        disk.note(file)

    monkeypatch.setattr(os, "fsync", noted)
    return disk


def test_at_every_step_commits_logs_and_the_plan_would_outlive_a_power_cut(tmp_path: Path, disk: Disk) -> None:
    recipe = recipe_for(draw_pictures(tmp_path / "images", 40), str(disk.root))
    dataset = planned(recipe)
    assert disk.keeps(DATASET)
    assert disk.keeps(dataset.record.plan_key)
    lost: list[str] = []
    told: list[str] = []

    def look(event: ShardEvent) -> None:
        told.append(event.step)
        for unit in list_units(dataset.store):
            record = read_commit(dataset.store, unit)
            lost.extend(
                f"{event.step}: {item.role} of {unit}"
                for item in record.objects
                if not (disk.keeps(item.attempt_key) or disk.keeps(item.final_key))
            )
        if event.step == "committed" and not disk.keeps(event.unit.commit_key):
            lost.append(f"the commit of {event.unit}")
        if event.step == "all logged":
            logs = [item.key for item in dataset.store.list(event.unit.attempts_prefix) if "/log/" in item.key]
            lost.extend(key for key in logs if not disk.keeps(key))
            assert logs

    with lane_for(recipe, dataset, EchoEngine()) as lane:
        for shard in range(2):
            lane.run(Unit(shard, 0), look)
    assert told.count("swept") == 2
    assert not lost
    assert not list(dataset.store.list(ATTEMPTS))
    assert verify(dataset, deep=True).sound


def test_whoever_sweeps_settles_what_one_that_died_had_not(tmp_path: Path, disk: Disk) -> None:
    """He was killed after the create, or after the copies, and before they were on the disk."""
    dataset = planned(recipe_for(draw_pictures(tmp_path / "images", 40), str(disk.root)))
    store = dataset.store
    records = [commit_record(Unit(shard, 0), samples=20, dataset="drawn") for shard in range(2)]
    for record in records:
        store.create(record.unit.commit_key, record.encode())
        store.put(Attempt.begin(record.unit).log_key(0, 1), b"{}\n")
    first, second = records
    assert not disk.keeps(first.unit.commit_key)
    publish(store, commit(store, first.model_copy(update={"attempt": "another"})))
    assert disk.keeps(first.unit.commit_key)
    sweep(store, [second], dry_run=True)
    assert not disk.keeps(second.unit.commit_key)
    assert len(sweep(store, [second])) == 1
    assert disk.keeps(second.unit.commit_key)
