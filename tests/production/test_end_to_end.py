"""Everything of production on one machine, and each part of it killed while a dataset is captioned."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from plant import CONCURRENCY, RUNNER, SHARD_SAMPLES, SHARDS, Plant, forms

from caprl_core.shards.dataset import open_dataset
from caprl_core.shards.verify import verify
from caprl_core.storage.layout import COMMITS
from caprl_core.world.stub_server import StubBehaviour
from support.ceph_gateway import missing_programs
from support.postgres_server import postgres_programs
from support.stub_thread import running_stub

pytestmark = [pytest.mark.production, pytest.mark.timeout(1200)]

SLOW, VERY_SLOW = StubBehaviour(median_s=1.2, sigma=0.1), StubBehaviour(median_s=20.0, sigma=0.1)
LOST_WITH_A_LANE = RUNNER["shards_in_flight"] * RUNNER["window"]
"""Samples that a killed lane had asked and not yet in the log, at most (P4)."""


@pytest.fixture
def plant(tmp_path: Path) -> Iterator[Plant]:
    if missing := missing_programs():
        pytest.skip(f"Ceph is not installed: no {', '.join(missing)} (Debian: radosgw ceph-mon ceph-osd ceph-common)")
    if postgres_programs() is None:
        pytest.skip("PostgreSQL is not installed (Debian: postgresql)")
    with running_stub(SLOW) as stub, Plant(tmp_path, stub) as plant:
        yield plant


class Book:
    """Counts before and after each death."""

    def __init__(self, plant: Plant) -> None:
        self._plant = plant
        self.lines: list[dict[str, object]] = []

    def kill(self, what: str, kill: Callable[[], object], recovered: Callable[[], bool]) -> None:
        """Kill something, and go on when the run has recovered and then committed more."""
        before = self._plant.counts()
        kill()
        self._plant.until(recovered)
        base = self._plant.committed()
        self._plant.until(lambda: self._plant.committed() > base)
        self.lines.append({"killed": what, "before": before, "after": self._plant.counts()})

    def __str__(self) -> str:
        rows = [f"{'killed':<10}{'committed':>20}{'asked':>20}{'asked twice':>20}"]
        for line in self.lines:
            before, after = line["before"], line["after"]
            cells = [f"{before[name]} -> {after[name]}" for name in ("committed", "asked", "asked_twice")]
            rows.append(f"{line['killed']:<10}" + "".join(f"{cell:>20}" for cell in cells))
        return "\n".join(rows)


def test_lane_worker_server_and_store_are_killed_and_nothing_is_lost_or_doubled(plant: Plant) -> None:
    book = Book(plant)
    plant.start_worker("cpu-pool")
    plant.start_worker("gpu-pool", "fake0")
    plant.start_worker("gpu-pool", "fake1")
    # One lane more than there are workers: it waits for whichever is free first.
    plant.run("caption-dataset", "-p", "lanes=3")
    plant.until(lambda: at_work(plant) == {"fake0", "fake1"} and plant.committed() > 0)

    known = set(plant.starts)
    book.kill("a lane", lambda: plant.kill_lane("fake0"), lambda: "fake0" in at_work(plant, known))

    def replace_worker() -> None:
        # Nothing is finished and so nothing logged while the new worker's lane starts: its predecessor is an orphan.
        plant.stub.behaviour = VERY_SLOW
        plant.until(lambda: plant.stub.in_flight > CONCURRENCY)  # so both lanes have asked
        plant.kill_worker("fake1")
        plant.start_worker("gpu-pool", "fake1")
        plant.until(lambda: "fake1" in at_work(plant, known))
        plant.stub.behaviour = SLOW

    known = set(plant.starts)
    book.kill("a worker", replace_worker, lambda: True)

    def restart_server() -> None:
        plant.server.kill()
        plant.server.start()

    book.kill("the server", restart_server, lambda: True)

    def restart_store() -> None:
        plant.ceph.kill()
        # Until the lanes stand still, because nothing can be logged.
        plant.until(lambda: plant.stub.in_flight == 0)
        plant.ceph.start()

    book.kill("the store", restart_store, lambda: True)

    plant.stub.behaviour = StubBehaviour(median_s=0.1, sigma=0.1)
    plant.until(lambda: plant.over("caption-dataset"))
    ended = set(plant.states("caption-dataset").values())
    if ended != {"COMPLETED"}:
        # Some shards failed, or the run that hands them out died itself.
        again = "resume-failed" if ended == {"FAILED"} else "caption-dataset"
        plant.run(again, *(() if again == "resume-failed" else ("-p", "lanes=2")))
        plant.until(lambda: plant.over(again))
    plant.until(lambda: plant.over("caption-shards") and not plant.watch.now)
    print(f"\n{book}\nthe run: {sorted(ended)}; its lanes: {sorted(plant.states('caption-shards').values())}")
    print(f"engine starts: {sorted(plant.starts.values())}; at the end: {plant.counts()}")
    (plant.folder / "deaths.json").write_text(json.dumps({"deaths": book.lines, "end": plant.counts()}, indent=1))

    dataset = open_dataset(plant.store, plant.recipe)
    report = verify(dataset, deep=True)
    assert report.sound, report.problems
    assert (report.planned, report.rows) == (SHARDS * SHARD_SAMPLES, SHARDS * SHARD_SAMPLES)
    assert (report.pending, report.unpublished) == (0, 0)
    assert set(plant.watch.devices.values()) == {"fake0", "fake1"}
    assert not plant.watch.doubled, "two engines on one GPU"
    assert set(plant.starts.values()) == {1}, f"an engine loads once a lane: {plant.starts}"
    assert len(plant.starts) < SHARDS / 2, "a lane for each shard"
    # Two lanes died, one of them with its worker; the store's death may fail what two others had at work.
    # At the very end a lane that is through goes on with what the other has begun.
    lost = 4 * LOST_WITH_A_LANE + RUNNER["shards_in_flight"] * SHARD_SAMPLES
    assert plant.counts()["asked_twice"] <= lost, f"{book}"
    assert not leaks(plant)


def at_work(plant: Plant, but: set[str] = frozenset()) -> set[str]:
    """Devices whose lane has an engine and is none of these."""
    return {device for device, runs in plant.watch.now.items() if runs - but}


def leaks(plant: Plant) -> list[str]:
    """Where a secret was found."""
    secrets = {what: forms(secret) for what, secret in plant.secrets().items()}
    found, names = [], []
    for name, data in plant.left():
        names.append(name)
        found += [f"{what} in {name}" for what, ways in secrets.items() if any(way in data for way in ways)]
    for part in (
        "prefect-server.log",
        "worker-gpu-pool",
        "radosgw",
        "PostgreSQL",
        "table log",
        "table artifact",
        COMMITS,
    ):
        assert any(part in name for name in names), f"not searched: {part}"
    return found
