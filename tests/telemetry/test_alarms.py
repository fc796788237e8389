"""When a run is worth an alarm."""

from typing import Any

import pytest

from caprl_core.recipe.models import AlertsExecution
from caprl_core.shards.tally import RunStart, Snapshot
from caprl_core.telemetry.alarms import (
    FAILURE_BUDGET_EXCEEDED,
    JUDGED_SAMPLES,
    RATE_BELOW_EXPECTATION,
    Alarms,
)

START = RunStart("drawn", "out", samples=10_000, total=10_000, done=1000, rejected=900, shards=10)


def at(**changes: Any) -> Snapshot:
    now = Snapshot(
        done=1000,
        total=10_000,
        rejected=900,
        asked=0,
        resumed=0,
        shards_done=0,
        shards_failed=0,
        shards=10,
        in_flight=(),
        rate=0.0,
        eta_s=None,
        elapsed_s=0.0,
    )
    return now._replace(**changes)


def kinds(alarms: Alarms, now: Snapshot) -> list[str]:
    return [alarm.kind for alarm in alarms.look(now)]


def test_without_expectations_nothing_is_told() -> None:
    alarms = Alarms(AlertsExecution(), START)
    assert kinds(alarms, at(done=2000, rejected=1900, shards_failed=10, elapsed_s=1e6)) == []


def test_the_budget_counts_this_runs_samples_alone_and_is_told_once_until_it_is_kept_again() -> None:
    alarms = Alarms(AlertsExecution(failure_budget=0.1), START)
    assert kinds(alarms, at(done=1000 + JUDGED_SAMPLES - 1, rejected=900 + 50)) == [], "too few to judge"
    assert kinds(alarms, at(done=2000, rejected=900 + 100)) == [], "just the budget"
    [alarm] = alarms.look(at(done=2000, rejected=900 + 101))
    assert alarm.kind == FAILURE_BUDGET_EXCEEDED
    assert "101 of 1,000 samples" in alarm.message
    assert kinds(alarms, at(done=2001, rejected=900 + 102)) == [], "told already"
    assert kinds(alarms, at(done=4000, rejected=900 + 102)) == []
    assert kinds(alarms, at(done=5000, rejected=900 + 900)) == [FAILURE_BUDGET_EXCEEDED]


def test_failed_shards_exceed_the_budget_too() -> None:
    alarms = Alarms(AlertsExecution(failure_budget=0.1), START)
    assert kinds(alarms, at(shards_failed=1)) == []
    assert kinds(alarms, at(shards_failed=2)) == [FAILURE_BUDGET_EXCEEDED]


@pytest.fixture
def expecting() -> Alarms:
    return Alarms(AlertsExecution(samples_per_second_at_least=10, window_s=60), START)


def test_a_slow_run_is_told_after_a_whole_window(expecting: Alarms) -> None:
    found = {t: kinds(expecting, at(done=1000 + 5 * t, elapsed_s=float(t))) for t in range(0, 200, 5)}
    # At 0 nothing was done yet: the window begins with the first sample, at 5.
    assert {t: told for t, told in found.items() if told} == {65: [RATE_BELOW_EXPECTATION]}


def test_loading_the_engine_is_not_slowness(expecting: Alarms) -> None:
    assert all(kinds(expecting, at(elapsed_s=float(t))) == [] for t in range(0, 1000, 10))


def test_a_run_as_fast_as_expected_is_left_alone_and_one_that_slows_down_is_told(expecting: Alarms) -> None:
    done = 1000
    told = []
    for t in range(0, 600, 5):
        done += 65 if t < 300 else 20
        told += [t] * len(kinds(expecting, at(done=done, elapsed_s=float(t))))
    assert len(told) == 1
    assert 300 < told[0] <= 360


def test_the_end_of_a_run_is_slow_because_little_is_left(expecting: Alarms) -> None:
    # 600 samples would be a window's work.
    assert all(kinds(expecting, at(done=9401 + t // 100, elapsed_s=float(t))) == [] for t in range(0, 1000, 10))
