"""A store that fails for a while, a full disk, racing attempts: no loss and nothing half-published."""

import os
import re
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from caprl_core.errors import DiskFullError, StoreError
from caprl_core.shards.dataset import Dataset, open_dataset
from caprl_core.shards.verify import verify
from caprl_core.storage.commit import (
    CommitRecord,
    CommittedObject,
    commit,
    list_units,
    read_commit,
    read_commits,
)
from caprl_core.storage.layout import ATTEMPTS, COMMITS, Attempt, Unit
from caprl_core.storage.log import read_log
from caprl_core.storage.publish import publish, sweep, sweep_unit
from caprl_core.storage.store import Store
from support.commit_records import commit_record
from support.drawn_dataset import draw_pictures, lane_for, planned, recipe_for
from support.echo_engine import EchoEngine
from support.flaky_proxy import FAULTS, FlakyProxy


@pytest.fixture
def proxy(s3_endpoint: str) -> Iterator[FlakyProxy]:
    made = FlakyProxy(s3_endpoint)
    yield made
    made.close()


STORAGE = {"timeout_s": 3.0, "retries": 2, "retry_timeout_s": 4.0}


def flaky_dataset(proxy: FlakyProxy, bucket: str, images: Path) -> Dataset:
    """The dataset as the lane sees it, through the proxy."""
    recipe = recipe_for(images, f"s3://{bucket}/d", execution__storage=STORAGE | {"endpoint": proxy.endpoint})
    return planned(recipe)


def run_until_committed(dataset: Dataset, images: Path, proxy: FlakyProxy, engine: EchoEngine, tries: int = 40) -> int:
    """Run the shards again and again, as Prefect's retries do; returns how often a run failed."""
    recipe = recipe_for(images, dataset.store.uri, execution__storage=STORAGE | {"endpoint": proxy.endpoint})
    failures = 0
    with lane_for(recipe, dataset, engine) as lane:
        for shard in range(dataset.record.shards):
            for _ in range(tries):
                try:
                    lane.run(Unit(shard, 0))
                    break
                except StoreError:
                    failures += 1
            else:
                pytest.fail("the store was never good enough")
    return failures


@pytest.mark.parametrize("fault", FAULTS)
def test_one_kind_of_fault_for_a_while(proxy: FlakyProxy, bucket: str, tmp_path: Path, fault: str) -> None:
    images = draw_pictures(tmp_path / "images", 40)
    dataset = flaky_dataset(proxy, bucket, images)
    proxy.faults, proxy.share = (fault,), 0.25
    engine = EchoEngine()
    run_until_committed(dataset, images, proxy, engine)
    assert proxy.seen[fault] > 0
    proxy.share = 0.0
    direct = open_dataset(Store(f"s3://{bucket}/d"))
    sweep(direct.store, read_commits(direct.store, list_units(direct.store)))
    report = verify(direct, deep=True)
    assert report.sound, report.problems
    assert (report.rows, report.pending) == (40, 0)


def test_all_faults_together_and_a_total_outage(proxy: FlakyProxy, bucket: str, tmp_path: Path) -> None:
    images = draw_pictures(tmp_path / "images", 40)
    dataset = flaky_dataset(proxy, bucket, images)
    proxy.share = 0.3
    outage = threading.Timer(0.5, lambda: setattr(proxy, "share", 1.0))
    recovery = threading.Timer(4.0, lambda: setattr(proxy, "share", 0.2))
    outage.start()
    recovery.start()
    run_until_committed(dataset, images, proxy, EchoEngine(latency_s=lambda _: 0.05))
    outage.join()
    recovery.join()
    proxy.share = 0.0
    report = verify(open_dataset(Store(f"s3://{bucket}/d")), deep=True)
    assert report.sound, report.problems
    assert (report.rows, report.pending) == (40, 0)


def test_an_attempt_whose_commit_reply_was_lost_still_knows_that_it_won(
    proxy: FlakyProxy, bucket: str, tmp_path: Path
) -> None:
    images = draw_pictures(tmp_path / "images", 5)
    dataset = flaky_dataset(proxy, bucket, images)
    proxy.faults, proxy.only, proxy.methods, proxy.share = ("lost reply",), f"/{COMMITS}/", ("PUT",), 0.6
    recipe = recipe_for(
        images, dataset.store.uri, execution__storage=STORAGE | {"retries": 12, "endpoint": proxy.endpoint}
    )
    with lane_for(recipe, dataset, EchoEngine()) as lane:
        for _ in range(6):
            result = lane.run(Unit(0, 0))
            assert result.won, "the commit is this attempt's own: it must not count itself out"
            if proxy.seen["lost reply"]:
                break
            dataset.store.delete([Unit(0, 0).commit_key])
    assert proxy.seen["lost reply"] > 0


def a_record(store: Store, unit: Unit, attempt: Attempt) -> CommitRecord:
    """Put an attempt's three objects and describe them."""
    objects = []
    for role in ("tar", "jsonl", "ledger"):
        data = f"{role} of {attempt.id}".encode()
        store.put(attempt.object_key(role), data)
        objects.append(
            CommittedObject(
                role=role,  # type: ignore[arg-type]
                attempt_key=attempt.object_key(role),
                final_key=unit.final_key("races", role),
                size=len(data),
                sha256="0" * 64,
            )
        )
    return commit_record(unit, dataset="races", attempt=attempt.id, objects=tuple(objects))


@pytest.mark.parametrize("kind", ["local", "s3"])
def test_a_hundred_races_of_two_attempts_have_one_winner_each(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    store = Store(str(tmp_path) if kind == "local" else f"s3://{request.getfixturevalue('bucket')}/races")
    for race in range(100):
        unit = Unit(race, 0)
        attempts = [Attempt.begin(unit) for _ in range(2)]
        start = threading.Barrier(2)

        def contend(attempt: Attempt, unit: Unit = unit, start: threading.Barrier = start) -> CommitRecord:
            record = a_record(store, unit, attempt)
            start.wait()
            won = commit(store, record)
            publish(store, won)  # while the other publishes and sweeps
            sweep_unit(store, unit)
            return won

        with ThreadPoolExecutor(2) as pool:
            seen = list(pool.map(contend, attempts))
        assert seen[0] == seen[1] == read_commit(store, unit)
        for item in seen[0].objects:
            assert store.get(item.final_key) == f"{item.role} of {seen[0].attempt}".encode()
    assert len(list_units(store)) == 100
    sweep(store, read_commits(store, list_units(store)))
    assert list(store.list(ATTEMPTS)) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting a small file system needs root")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def fill(folder: Path, leave: int) -> Path:
    """Fill a disk up to the last `leave` bytes."""
    free = os.statvfs(folder)
    ballast = folder / "ballast"
    ballast.write_bytes(b"\0" * max(0, free.f_bavail * free.f_frsize - leave))
    return ballast


@pytest.mark.parametrize("leave", [0, 8192, 40_000])
def test_a_full_scratch_disk_stops_the_shard_and_loses_nothing(small_disk: Path, tmp_path: Path, leave: int) -> None:
    images = draw_pictures(tmp_path / "images", 40)
    recipe = recipe_for(
        images, str(tmp_path / "out"), dataset__shard_samples=40, execution__runner__spool_dir=str(small_disk)
    )
    dataset = planned(recipe)
    ballast = fill(small_disk, leave)
    engine = EchoEngine()
    with lane_for(recipe, dataset, engine) as lane:
        with pytest.raises(DiskFullError) as told:
            lane.run(Unit(0, 0))
        assert re.search(rf"disk is full.* {re.escape(str(small_disk))} \(\d+\.\d MiB of 1\.0 MiB", str(told.value))
        assert "execution.runner.spool_dir" in str(told.value)
        assert list_units(dataset.store) == []
        logged = set(read_log(dataset.store, Unit(0, 0)))
        engine.requests.clear()
        ballast.unlink()
        lane.run(Unit(0, 0))
    assert {request.split("/")[0] for request in engine.requests} == set(dataset.plan.shard_keys(0)) - logged
    assert verify(dataset, deep=True).rows == 40


def test_a_full_store_publishes_nothing_by_halves(small_disk: Path, tmp_path: Path) -> None:
    images = draw_pictures(tmp_path / "images", 40)
    recipe = recipe_for(images, str(small_disk / "out"), dataset__shard_samples=40)
    dataset = planned(recipe)
    failures = 0
    told: list[str] = []
    with lane_for(recipe, dataset, EchoEngine()) as lane:
        for leave in (0, 4096, 20_000, 60_000, 90_000):
            ballast = fill(small_disk, leave)
            try:
                lane.run(Unit(0, 0))
            except StoreError as error:
                told.append(str(error))
            failures += not list_units(dataset.store)
            ballast.unlink()
            report = verify(dataset, deep=True)
            assert report.sound, report.problems
        lane.run(Unit(0, 0))
    assert failures == len(told) > 0
    assert all(
        re.search(rf"full.* {re.escape(dataset.store.uri)} \(\d+\.\d MiB of 1\.0 MiB are free", text) for text in told
    )
    assert verify(dataset, deep=True).rows == 40


def test_a_shard_that_met_a_full_disk_does_not_stop_the_others(small_disk: Path, tmp_path: Path) -> None:
    images = draw_pictures(tmp_path / "images", 60)
    recipe = recipe_for(images, str(tmp_path / "out"), execution__runner__spool_dir=str(small_disk))
    dataset = planned(recipe)
    ballast = fill(small_disk, 0)
    engines: list[EchoEngine] = []
    lane = lane_for(recipe, dataset, None)
    lane._open_engine = lambda _: engines.append(EchoEngine()) or engines[-1]  # type: ignore[func-returns-value]
    with lane:
        with pytest.raises(DiskFullError, match="shard 1: the disk is full"):
            lane.run(Unit(1, 0))
        ballast.unlink()
        for shard in (0, 2, 1):
            lane.run(Unit(shard, 0))
    assert len(engines) == 1, "the engine has nothing to do with it"
    assert verify(dataset, deep=True).rows == 60
