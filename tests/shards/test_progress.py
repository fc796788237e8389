"""Rates and times to go stay sensible over pauses, resumes, revisions and races."""

import datetime as dt
from pathlib import Path

import pytest

from caprl_core.data.row import Result
from caprl_core.shards.dataset import Dataset
from caprl_core.shards.events import ShardEvent
from caprl_core.shards.progress import progress
from caprl_core.shards.suspects import AttemptState
from caprl_core.shards.tally import RunStart, Tally
from caprl_core.storage.commit import Usage, commit
from caprl_core.storage.layout import Attempt, Unit
from caprl_core.storage.log import SampleLog
from support.commit_records import commit_record
from support.drawn_dataset import draw_pictures, planned, recipe_for

START = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    """Six shards of 20."""
    return planned(recipe_for(draw_pictures(tmp_path / "images", 120), str(tmp_path / "out")))


def committed(dataset: Dataset, shard: int, at_s: float, wall_s: float, resumed: int = 0, revision: int = 0) -> None:
    record = commit_record(
        Unit(shard, revision),
        samples=20,
        dataset="drawn",
        fingerprint=dataset.record.fingerprint,
        usage=Usage(engine_s=wall_s, wall_s=wall_s, resumed=resumed),
        created=(START + dt.timedelta(seconds=at_s)).isoformat(timespec="seconds"),
    )
    commit(dataset.store, record)


def rate_of(dataset: Dataset) -> float | None:
    return progress(dataset, recipe_for(Path(), "out").execution.cost).rate


def test_overlapping_shards_add_up(dataset: Dataset) -> None:
    for shard in range(4):
        committed(dataset, shard, at_s=20 + shard * 10, wall_s=20)
    assert rate_of(dataset) == pytest.approx(80 / (20 + 30))


def test_a_night_between_two_runs_is_no_time_at_work(dataset: Dataset) -> None:
    committed(dataset, 0, at_s=10, wall_s=10)
    committed(dataset, 1, at_s=20, wall_s=10)
    committed(dataset, 2, at_s=40_000, wall_s=10)
    assert rate_of(dataset) == pytest.approx(60 / 30)


def test_what_was_resumed_was_not_asked_in_that_time(dataset: Dataset) -> None:
    committed(dataset, 0, at_s=10, wall_s=1, resumed=19)
    assert rate_of(dataset) == pytest.approx(1.0)
    committed(dataset, 1, at_s=11, wall_s=1, resumed=20)
    assert rate_of(dataset) == pytest.approx(0.5)


def test_a_run_that_only_packed_what_was_logged_has_no_rate(dataset: Dataset) -> None:
    committed(dataset, 0, at_s=10, wall_s=1, resumed=20)
    assert rate_of(dataset) is None


def test_revisions_do_not_count_as_whole_shards(dataset: Dataset) -> None:
    committed(dataset, 0, at_s=10, wall_s=10)
    committed(dataset, 0, at_s=11, wall_s=1, revision=1)
    assert rate_of(dataset) == pytest.approx(2.0)


async def test_racing_attempts_do_not_count_a_sample_twice(dataset: Dataset) -> None:
    keys = dataset.plan.shard_keys(0)
    for _ in range(2):
        log = SampleLog(dataset.store, Attempt.begin(Unit(0, 0)), flush_s=0.01, flush_samples=1)
        for index, key in enumerate(keys[:15]):
            await log.append(Result(key, index, {"key": key, "index": index}, None))
        await log.close()
    dataset.store.put("attempts/000000.r000/.DS_Store", b"x")
    found = progress(dataset, recipe_for(Path(), "out").execution.cost)
    assert found.logged_samples == 20, "at most a whole shard"
    assert [attempt.logged for attempt in found.running] == [15, 15]


def test_loading_the_engine_does_not_dilute_the_rate_of_a_run() -> None:
    now = [0.0]
    tally = Tally(RunStart("d", "uri", 1000, 1000, 0, 0, 1), clock=lambda: now[0])
    assert tally.snapshot().rate == 0.0
    now[0] = 300.0
    tally.event(ShardEvent(Unit(0, 0), "log read", 0, 0))
    for number in range(50):
        now[0] += 0.2
        tally.event(ShardEvent(Unit(0, 0), "sample", number + 1, 0))
    snapshot = tally.snapshot()
    assert snapshot.rate == pytest.approx(5.0, rel=0.05)
    assert snapshot.eta_s == pytest.approx(190.0, rel=0.05)
    assert snapshot.elapsed_s == pytest.approx(310.0)


def test_of_many_lanes_the_oldest_commit_looked_at_is_only_where_the_time_begins(tmp_path: Path) -> None:
    """8 lanes take 80 s for a shard of one sample each; of 130 commits the newest 100 are looked at."""
    dataset = planned(
        recipe_for(draw_pictures(tmp_path / "images", 130), str(tmp_path / "out"), dataset__shard_samples=1)
    )
    for shard in range(130):
        record = commit_record(
            Unit(shard, 0),
            dataset="drawn",
            usage=Usage(engine_s=80, wall_s=80),
            created=(START + dt.timedelta(seconds=10 * shard)).isoformat(timespec="seconds"),
        )
        commit(dataset.store, record)
    assert rate_of(dataset) == pytest.approx(0.1)


def test_an_attempt_that_says_it_has_ended_does_not_run_however_young_its_log(dataset: Dataset) -> None:
    ended, silent, alive = (Attempt.begin(Unit(shard, 0)) for shard in range(3))
    for attempt in (ended, silent, alive):
        dataset.store.put(attempt.log_key(0, 1), b"{}\n")
    dataset.store.put(ended.state_key, AttemptState(reach=4, ended=True).model_dump_json().encode())
    dataset.store.put(alive.state_key, AttemptState(reach=4).model_dump_json().encode())
    running = progress(dataset, recipe_for(Path(), "out").execution.cost).running
    assert {one.unit.shard: one.alive for one in running} == {0: False, 1: True, 2: True}
