"""What becomes of a run's lanes on many hosts in hours of trouble, by a clock of its own."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from caprl_core.shards.lane_work import LaneWork
from caprl_core.shards.slices import parse_units
from caprl_core.storage.layout import Unit
from flows.lane_signs import TAKEN_S
from support.followed_run import FollowedRun, TimeIsUpError
from tasks.lanes import LaneState

MakeRun = Callable[[int, int], FollowedRun]


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakeRun:
    return lambda shards, lanes: FollowedRun(tmp_path, monkeypatch, shards=shards, lanes=lanes)


def first_unit(run: FollowedRun, lane: int) -> Unit:
    return parse_units(run.host.units[lane], len(run.units))[0]


def test_a_broken_host_does_not_end_a_run_whose_other_hosts_work(made: MakeRun) -> None:
    """It is always the one with a free place, so every new lane comes to it and dies before its first sample."""
    run = made(8, 3)
    began: dict[int, float] = {}

    def happen(now: float) -> None:
        began.update((lane, now) for lane in run.begin_waiting())
        for lane, at in began.items():
            if lane > 2 and now - at >= 20:
                run.host.state[lane] = LaneState.FAILED
        if now % 200 == 0:
            run.log(1, first_unit(run, 1))
            run.log(2, first_unit(run, 2))

    run.happen = happen
    with pytest.raises(TimeIsUpError):
        run.follow(until=3600)
    assert not run.books.failed
    assert run.host.state[1] is run.host.state[2] is LaneState.RUNNING
    lost = len(run.host.state) - 2
    assert 5 < lost < 20, "each comes later than the one before, but they come"


def test_lanes_that_all_end_without_a_sample_end_the_run_at_once(made: MakeRun) -> None:
    run = made(8, 2)

    def happen(now: float) -> None:
        for lane in run.begin_waiting():
            run.host.state[lane] = LaneState.FAILED

    run.happen = happen
    run.follow()
    assert run.now < 120, "nobody rests while nothing works"
    assert any("ended without a sample; the last" in why for why in run.books.failed.values())


def test_a_host_that_is_well_again_has_its_lanes_at_once(made: MakeRun) -> None:
    """Spot instances come and go: a lane that has logged samples is replaced without a rest."""
    run = made(8, 2)
    began: dict[int, float] = {}
    gaps: list[float] = []

    def happen(now: float) -> None:
        for lane in run.begin_waiting():
            began[lane] = now
            ended = [at for at in began.values() if at < now]
            if ended:
                gaps.append(now - max(ended) - 60)
        run.log(1, first_unit(run, 1), samples=0 if now % 400 else 1)
        for lane, at in began.items():
            if lane > 1 and run.host.state[lane] is LaneState.RUNNING:
                run.log(lane, first_unit(run, lane))
                if now - at >= 60:
                    run.host.state[lane] = LaneState.CRASHED

    run.happen = happen
    with suppress(TimeIsUpError):
        run.follow(until=600)
    assert len(gaps) > 3
    assert max(gaps) <= 10


def test_who_takes_over_a_begun_shard_may_wait_for_its_gpu_as_long_as_any(made: MakeRun) -> None:
    """400 s until it has loaded are not silence, and the shard is not to blame for a lane that never came to it."""
    run = made(4, 1)
    for shard in range(3):
        run.finish(Unit(shard, 0))
    ready: dict[int, float] = {}

    def happen(now: float) -> None:
        for lane in run.begin_waiting():
            ready[lane] = now + 400
            if lane == 1:
                run.log(lane, Unit(3, 0), 3)
        if now > 20 and run.host.state[1] is LaneState.RUNNING:
            run.host.state[1] = LaneState.CRASHED
        for lane, at in ready.items():
            if lane > 1 and now >= at and run.host.state[lane] is LaneState.RUNNING:
                run.finish(Unit(3, 0))
                run.host.state[lane] = LaneState.DONE

    run.happen = happen
    run.follow(Unit(3, 0))
    assert run.books.done == [Unit(3, 0)]
    assert not run.books.failed
    assert not run.books.stalled
    assert len(run.host.state) == 2


def test_two_short_absences_of_the_server_hours_apart_are_not_one_long_one(made: MakeRun) -> None:
    run = made(3, 2)
    submit, away = run.host.start, [False]

    def start(number: int, units: str, work: str) -> None:
        if away[0]:
            raise ConnectionError("the server is away for a moment")
        submit(number, units, work)

    run.host.start = start  # type: ignore[method-assign]

    def happen(now: float) -> None:
        run.begin_waiting()
        away[0] = now in (10, 7200)
        if now == 10:
            run.host.state[2] = LaneState.CRASHED
        if now == 7200:
            run.host.state[1] = LaneState.CRASHED
        if now < 7200 and now % 600 == 0:
            run.log(1, Unit(0, 0))
        if now == 7400:
            for unit in run.units:
                run.finish(unit)

    run.happen = happen
    run.follow()
    assert run.books.done == run.units
    assert not run.books.failed
    assert len(run.host.state) > 2, "lanes were started after the second one"


def test_a_lane_that_a_worker_has_taken_and_never_begins_is_replaced_and_blames_nobody(made: MakeRun) -> None:
    """Its host died between the two: no heartbeat has begun that could fall silent."""
    run = made(2, 1)
    taken: dict[int, float] = {}

    def happen(now: float) -> None:
        for lane in run.begin_waiting():
            taken[lane] = now
            run.host.state[lane] = LaneState.TAKEN
        if len(taken) > 8:
            for unit in run.units:
                run.finish(unit)

    run.happen = happen
    run.follow()
    assert run.books.done == run.units
    assert not run.books.failed, "however often"
    assert run.host.stopped == set(range(1, 9))
    assert taken[2] - taken[1] == pytest.approx(TAKEN_S, abs=30)
    assert run.books.stalled[0] == (1, "taken by a worker and does not begin")


def test_a_lane_whose_submission_was_answered_by_silence_finds_nothing_to_do_when_it_comes(made: MakeRun) -> None:
    run = made(4, 1)
    submit = run.host.start
    made_runs: list[tuple[str, str]] = []

    def start(number: int, units: str, work: str) -> None:
        made_runs.append((units, work))
        if len(made_runs) == 1:
            raise TimeoutError("the reply is lost")
        submit(number, units, work)

    run.host.start = start  # type: ignore[method-assign]
    run.happen = lambda _: run.begin_waiting() and None
    with pytest.raises(TimeIsUpError):
        run.follow(until=30)

    def worked(units: str, work: str) -> list[Unit]:
        lane = LaneWork(run.dataset.store, work, parse_units(units, 4), shards=4)
        found = []
        while (unit := lane.take(busy=True)) is not None:
            found.append(unit)
        return found

    ghost, second = [worked(*one) for one in made_runs]
    assert ghost == []
    assert second == run.units


def test_a_lane_whose_shards_are_done_is_at_work_whatever_the_server_said_last(made: MakeRun) -> None:
    """The server is away, and had last seen the lane in the hands of a worker."""
    run = made(2, 1)

    def happen(now: float) -> None:
        for lane in run.begin_waiting():
            run.host.state[lane] = LaneState.TAKEN
        if now % 3000 == 0:
            run.finish(run.units[int(now // 3000) - 1])

    run.happen = happen
    run.follow()
    assert run.now > TAKEN_S
    assert run.books.done == run.units
    assert not run.host.stopped
    assert len(run.host.state) == 1
