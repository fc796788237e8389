"""SIGKILL at every step of the protocol and at random moments: nothing is lost, doubled, changed or asked in vain.

After each kill and resume: P1 (every planned sample is a row or a reason), P2 (one commit a shard), P3 (what was
committed before is unchanged), and the work redone is at most the in-flight window of each shard.
"""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from caprl_core.shards.dataset import open_dataset
from caprl_core.shards.previous import read_results
from caprl_core.shards.verify import verify
from caprl_core.storage.commit import list_units, read_commit
from caprl_core.storage.layout import ATTEMPTS, Unit
from caprl_core.storage.log import read_log
from caprl_core.storage.publish import locate
from caprl_core.storage.store import Store
from support.drawn_dataset import draw_pictures, planned, recipe_for
from support.shard_process import WINDOW

SAMPLES = 40
STEPS = [
    "log read",
    "sample",
    "log flushed",
    "all logged",
    "gated",
    "packed",
    "tar put",
    "jsonl put",
    "ledger put",
    "committed",
    "tar published",
    "jsonl published",
    "ledger published",
    "swept",
]


class Zygote:
    """Starts shard processes by fork; `run` returns their exit status, negative for a signal."""

    def __init__(self, images: Path) -> None:
        tests = Path(__file__).parents[1]
        self.images = images
        self._process = subprocess.Popen(
            [sys.executable, "-m", "support.shard_process"],
            env=os.environ | {"PYTHONPATH": f"{tests}:{tests.parent}"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(
        self, journal: Path, uri: str, step: str = "-", occurrence: int = 1, kill_after_s: float | None = None
    ) -> int:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{journal}\t{uri}\t{self.images}\t{step}\t{occurrence}\n")
        self._process.stdin.flush()
        pid = int(self._process.stdout.readline().split()[1])
        if kill_after_s is not None:
            time.sleep(kill_after_s)
            with contextlib.suppress(ProcessLookupError):  # it may have finished
                os.kill(pid, signal.SIGKILL)
        return int(self._process.stdout.readline().split()[1])

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(30)


@pytest.fixture(scope="module")
def zygote(tmp_path_factory: pytest.TempPathFactory, s3_endpoint: str) -> Iterator[Zygote]:
    process = Zygote(draw_pictures(tmp_path_factory.mktemp("pictures") / "images", SAMPLES))
    yield process
    process.close()


@pytest.fixture(params=["local", "s3"])
def uri(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "local":
        return str(tmp_path / "dataset")
    return f"s3://{request.getfixturevalue('bucket')}/dataset"


def asked(journal: Path) -> list[str]:
    path = Path(f"{journal}.asked")
    return [line.split("/")[0] for line in path.read_text().split()] if path.exists() else []


def finished(store: Store, shards: int) -> dict[int, set[str]]:
    """Shard -> keys that are committed or in a log."""
    committed = set(list_units(store))
    return {
        shard: set(read_results(store, read_commit(store, Unit(shard, 0))))
        if Unit(shard, 0) in committed
        else set(read_log(store, Unit(shard, 0)))
        for shard in range(shards)
    }


def committed_bytes(store: Store) -> dict[str, bytes]:
    found = {}
    for unit in list_units(store):
        record = read_commit(store, unit)
        found[unit.commit_key] = store.get(unit.commit_key)
        found |= {item.final_key: store.get(locate(store, item)) for item in record.objects}
    return found


class Witness:
    """Remembers what it saw of a dataset and checks after every run that no property was broken."""

    def __init__(self, zygote: Zygote, uri: str, journals: Path) -> None:
        self._zygote = zygote
        self._uri = uri
        self._journals = journals
        self._runs = 0
        self._dataset = planned(recipe_for(zygote.images, uri, execution__runner__window=WINDOW))
        self._shards = self._dataset.record.shards
        self._done: dict[int, set[str]] = {shard: set() for shard in range(self._shards)}
        self._committed: dict[str, bytes] = {}

    def run(self, **kill: Any) -> bool:
        """Run once, killed or not; True if it came to its end."""
        self._runs += 1
        journal = self._journals / f"run-{self._runs}"
        status = self._zygote.run(journal, self._uri, **kill)
        assert status in ((-signal.SIGKILL, 0) if kill else (0,))
        sent = asked(journal)
        assert len(sent) == len(set(sent)), "one run asked a sample twice"
        again = set().union(*self._done.values()) & set(sent)
        assert not again, f"{len(again)} samples were asked although they were in the log"
        self._done = finished(self._dataset.store, self._shards)
        for shard, done in self._done.items():
            lost = set(sent) & set(self._dataset.plan.shard_keys(shard)) - done
            assert len(lost) <= WINDOW
        now = committed_bytes(self._dataset.store)
        assert {key: now.get(key) for key in self._committed} == self._committed, "committed content changed"
        self._committed = now
        return status == 0

    def check_complete(self) -> None:
        """After a run that came to its end."""
        store = self._dataset.store
        report = verify(open_dataset(store), deep=True)
        assert report.sound, report.problems
        assert (report.rows, report.pending, report.unpublished) == (SAMPLES, 0, 0)
        assert len(list_units(store)) == self._shards
        assert list(store.list(ATTEMPTS)) == [], "attempts were not swept"


def kill_at_random_moments(zygote: Zygote, uri: str, journals: Path, kills: int, seed: int) -> None:
    """Kill until `kills` processes really died, over as many datasets as that takes."""
    moments = random.Random(seed)
    killed = number = 0
    while killed < kills:
        number += 1
        (journals / str(number)).mkdir()
        witness = Witness(zygote, f"{uri}-{number}", journals / str(number))
        while killed < kills and not witness.run(kill_after_s=moments.uniform(0.02, 1.2)):
            killed += 1
        witness.run()
        witness.check_complete()


@pytest.mark.parametrize("occurrence", [1, 2], ids=["first-shard", "second-shard"])
@pytest.mark.parametrize("step", STEPS)
def test_killed_at_a_step(zygote: Zygote, uri: str, tmp_path: Path, step: str, occurrence: int) -> None:
    witness = Witness(zygote, uri, tmp_path)
    assert not witness.run(step=step, occurrence=occurrence * {"sample": 7, "log flushed": 2}.get(step, 1))
    witness.run()
    witness.check_complete()


def test_killed_at_the_same_step_again_and_again(zygote: Zygote, uri: str, tmp_path: Path) -> None:
    witness = Witness(zygote, uri, tmp_path)
    for step in STEPS:
        for _ in range(2):
            witness.run(step=step)
    witness.run()
    witness.check_complete()


def test_killed_at_random_moments(zygote: Zygote, uri: str, tmp_path: Path) -> None:
    kill_at_random_moments(zygote, uri, tmp_path, kills=8, seed=1)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_killed_at_fifty_random_moments(zygote: Zygote, uri: str, tmp_path: Path) -> None:
    kill_at_random_moments(zygote, uri, tmp_path, kills=50, seed=2)
