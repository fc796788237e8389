"""Few at a time, in order, each failure one outcome. Threads' futures serve: Prefect's have the same methods."""

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from caprl_core.errors import StoreError
from caprl_core.shards.lane_work import LaneWork, begin_run, tell_lane, work_key
from caprl_core.storage.layout import Unit
from caprl_core.storage.store import Store
from tasks.sliding_window import SlidingWindow

UNITS = [Unit(number, 0) for number in range(40)]


def work_of(folder: Path, units: list[Unit]) -> LaneWork:
    return LaneWork(Store(str(folder)), None, units, shards=len(UNITS))


def test_never_more_than_asked_for_are_submitted_and_all_end(tmp_path: Path) -> None:
    lock = threading.Lock()
    open_now, most = 0, 0
    submitted: list[Unit] = []

    def work(unit: Unit) -> Any:
        nonlocal open_now
        if unit.shard % 7 == 3:
            with lock:
                open_now -= 1
            raise StoreError(f"shard {unit.shard}")
        with lock:
            open_now -= 1
        return unit

    with ThreadPoolExecutor(16) as pool:

        def submit(unit: Unit) -> Future[Any]:
            nonlocal open_now, most
            with lock:
                open_now += 1
                most = max(most, open_now)
            submitted.append(unit)
            return pool.submit(work, unit)

        outcomes = list(SlidingWindow(work_of(tmp_path, UNITS), submit, 3).outcomes(lambda: None))  # type: ignore[arg-type]
    assert most <= 3
    assert submitted == UNITS
    assert sorted(outcome.unit for outcome in outcomes) == UNITS
    assert {outcome.unit.shard for outcome in outcomes if outcome.error} == {3, 10, 17, 24, 31, 38}
    assert all(outcome.result == outcome.unit for outcome in outcomes if outcome.error is None)


def test_closed_it_submits_nothing_more_and_waits_for_the_rest(tmp_path: Path) -> None:
    with ThreadPoolExecutor(2) as pool:
        window = SlidingWindow(work_of(tmp_path, UNITS), lambda unit: pool.submit(lambda: unit), 2)  # type: ignore[arg-type, return-value]
        seen = []
        for outcome in window.outcomes(lambda: None):
            seen.append(outcome.unit)
            window.close()
    assert seen[0] in UNITS[:2]
    assert sorted(seen) == UNITS[:2]


def test_it_ticks_while_nothing_ends(tmp_path: Path) -> None:
    ticked = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        window = SlidingWindow(work_of(tmp_path, UNITS[:1]), lambda unit: pool.submit(ticked.wait, 30), 1)  # type: ignore[arg-type, return-value]
        assert [outcome.result for outcome in window.outcomes(ticked.set)] == [True]


def test_what_comes_to_it_while_nothing_is_open_is_submitted(tmp_path: Path) -> None:
    store, key = Store(str(tmp_path)), work_key(begin_run(), 1)
    tell_lane(store, key, UNITS[:1], more=True)
    with ThreadPoolExecutor(1) as pool:
        work = LaneWork(store, key, UNITS[:1], shards=len(UNITS))
        window = SlidingWindow(work, lambda unit: pool.submit(lambda: unit), 1)  # type: ignore[arg-type, return-value]
        seen = []
        for outcome in window.outcomes(lambda: tell_lane(store, key, UNITS[:3], more=False) if seen else None):
            seen.append(outcome.unit)
    assert seen == UNITS[:3]
