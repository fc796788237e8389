"""The seconds a lane's figures count, by a clock that the test moves."""

import pytest

from caprl_core.shards.events import ShardEvent
from caprl_core.storage.layout import Unit
from caprl_core.telemetry.figures import COMMIT_BUCKETS_S, LaneFigures

UNIT = Unit(0, 0)


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Lane:
    """A shard of four samples and an engine of two slots."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.figures = LaneFigures(1, lambda _: 4, self.clock)
        self.figures.engine_started(2, 30.0)
        self.figures.begun()
        self.tell("log read", 0)

    def tell(self, step: str, done: int, rejected: int = 0) -> None:
        self.figures.event(ShardEvent(UNIT, step, done, rejected))

    def ask(self, request: str) -> float:
        self.figures.ready(request, None)
        return self.figures.asked(request)

    def answer(self, began: float) -> None:
        self.figures.answered(began, 10, 5)
        self.figures.accepted(UNIT)

    def wait(self, seconds: float) -> None:
        self.clock.now += seconds


@pytest.fixture
def lane() -> Lane:
    return Lane()


def test_an_engine_with_a_free_slot_and_nothing_ready_is_starved(lane: Lane) -> None:
    lane.wait(3)  # both slots are free while the first pictures are read
    first = lane.ask("a")
    lane.wait(2)  # one is
    lane.ask("b")
    lane.wait(5)  # none is
    lane.answer(first)
    lane.wait(1)  # one again, and two samples are left
    now = lane.figures.read()
    assert now.starved_seconds == 3 + 2 + 1
    assert now.free_slot_seconds == 2 * 3 + 2 + 1
    assert now.busy_seconds == 2 + 5 + 1
    assert now.request_seconds == 7


def test_a_sample_that_waits_for_a_slot_starves_nobody(lane: Lane) -> None:
    for request in ("a", "b"):
        lane.ask(request)
    lane.figures.ready("c", None)
    lane.wait(4)
    now = lane.figures.read()
    assert (now.waiting_samples, now.slot_wait_seconds, now.starved_seconds) == (1, 0, 0)
    lane.figures.asked("c")
    assert lane.figures.read().slot_wait_seconds == 4


def test_slots_left_free_by_the_last_samples_are_not_starved(lane: Lane) -> None:
    began = [lane.ask(request) for request in "abcd"]
    for one in began[:3]:
        lane.answer(one)
    lane.wait(9)
    assert lane.figures.read().starved_seconds == 0
    assert lane.figures.read().busy_seconds == 9


def test_what_is_rejected_or_resumed_is_not_waited_for(lane: Lane) -> None:
    lane.tell("log read", 1)  # one came from an earlier log
    for done in (2, 3, 4):
        lane.tell("sample", done, rejected=done - 1)  # the others' pictures are broken
    lane.wait(5)
    now = lane.figures.read()
    assert now.starved_seconds == 0
    assert (now.row_samples, now.rejected_samples) == (0, 3)


def test_without_an_engine_nobody_is_starved(lane: Lane) -> None:
    lane.figures.engine_stopped()
    lane.wait(60)
    now = lane.figures.read()
    assert (now.starved_seconds, now.request_slots) == (0, 0)


def test_rows_lag_until_the_log_has_them(lane: Lane) -> None:
    for request in ("a", "b"):
        lane.answer(lane.ask(request))
        lane.wait(2)
    now = lane.figures.read()
    assert (now.lag_samples, now.lag_seconds) == (2, 4)
    lane.tell("sample", 1)
    now = lane.figures.read()
    assert (now.lag_samples, now.lag_seconds, now.row_samples) == (1, 2, 1)
    lane.figures.left(UNIT, None)
    now = lane.figures.read()
    assert (now.lag_samples, now.lag_seconds) == (0, 0), "the attempt has ended"


def test_commit_times_are_put_into_their_buckets(lane: Lane) -> None:
    for seconds in (0.05, 0.3, 400.0):
        lane.tell("log read", 4)
        lane.tell("all logged", 4)
        lane.wait(seconds)
        lane.tell("committed", 4)
    now = lane.figures.read()
    assert now.commit_counts == [1, 0, 1, *[0] * (len(COMMIT_BUCKETS_S) - 3), 1]
    assert now.commit_seconds == pytest.approx(400.35)


def test_an_attempt_that_fails_waits_again_and_is_settled_once(lane: Lane) -> None:
    lane.figures.left(UNIT, None)
    assert dict(lane.figures.read().shards) == _states(waiting=1)
    lane.figures.begun()
    assert dict(lane.figures.read().shards) == _states(working=1)
    lane.figures.left(UNIT, None)
    lane.figures.settled("failed")
    assert dict(lane.figures.read().shards) == _states(failed=1)
    lane.figures.joined()
    assert lane.figures.read().shards["waiting"] == 1


def _states(**counts: int) -> dict[str, int]:
    return dict.fromkeys(("waiting", "working", "committed", "quarantined", "failed"), 0) | counts
