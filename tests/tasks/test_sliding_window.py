"""Few at a time, in order, each failure one outcome. Threads' futures serve: Prefect's have the same methods."""

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from caprl_core.errors import StoreError
from caprl_core.storage.layout import Unit
from tasks.sliding_window import SlidingWindow

UNITS = [Unit(number, 0) for number in range(40)]


def test_never_more_than_asked_for_are_submitted_and_all_end() -> None:
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

        outcomes = list(SlidingWindow(UNITS, submit, 3).outcomes(lambda: None))  # type: ignore[arg-type]
    assert most <= 3
    assert submitted == UNITS
    assert sorted(outcome.unit for outcome in outcomes) == UNITS
    assert {outcome.unit.shard for outcome in outcomes if outcome.error} == {3, 10, 17, 24, 31, 38}
    assert all(outcome.result == outcome.unit for outcome in outcomes if outcome.error is None)


def test_closed_it_submits_nothing_more_and_waits_for_the_rest() -> None:
    with ThreadPoolExecutor(2) as pool:
        window = SlidingWindow(UNITS, lambda unit: pool.submit(lambda: unit), 2)  # type: ignore[arg-type, return-value]
        seen = []
        for outcome in window.outcomes(lambda: None):
            seen.append(outcome.unit)
            window.close()
    assert seen[0] in UNITS[:2]
    assert sorted(seen) == UNITS[:2]


def test_it_ticks_while_nothing_ends() -> None:
    ticked = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        window = SlidingWindow(UNITS[:1], lambda unit: pool.submit(ticked.wait, 30), 1)  # type: ignore[arg-type, return-value]
        assert [outcome.result for outcome in window.outcomes(ticked.set)] == [True]
