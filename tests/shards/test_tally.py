"""A run's counts add up whatever order its events come in."""

from caprl_core.shards.events import ShardEvent, ShardResult
from caprl_core.shards.tally import RATE_WINDOW_S, RunStart, Tally
from caprl_core.storage.layout import Unit
from support.commit_records import commit_record


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def start(**changes: object) -> RunStart:
    values = {"name": "n", "uri": "u", "samples": 100, "total": 60, "done": 20, "rejected": 2, "shards": 4}
    return RunStart(**(values | changes))  # type: ignore[arg-type]


def result(unit: Unit, samples: int = 10, rejected: int = 1, resumed: int = 0) -> ShardResult:
    return ShardResult(unit, commit_record(unit, samples, rejected), True, resumed)


def test_what_was_done_before_is_in_flight_or_is_finished_adds_up() -> None:
    tally = Tally(start())
    tally.event(ShardEvent(Unit(2, 0), "log read", 4, 1))
    for done in (5, 6):
        tally.event(ShardEvent(Unit(2, 0), "sample", done, 1))
    tally.event(ShardEvent(Unit(3, 0), "sample", 1, 0))
    now = tally.snapshot()
    assert (now.done, now.rejected, now.asked) == (20 + 6 + 1, 2 + 1, 3)
    assert now.in_flight == ((Unit(2, 0), 6), (Unit(3, 0), 1))
    tally.finished(result(Unit(2, 0), resumed=4))
    tally.failed(Unit(3, 0))
    now = tally.snapshot()
    assert (now.done, now.rejected, now.resumed) == (20 + 10, 2 + 1, 4)
    assert (now.shards_done, now.shards_failed, now.in_flight) == (1, 1, ())
    assert tally.reasons == {"empty": 1}


def test_a_unit_that_was_counted_before_is_not_counted_again() -> None:
    tally = Tally(start(counted=frozenset([Unit(0, 0)])))
    tally.event(ShardEvent(Unit(0, 0), "tar published", 10, 0))
    assert tally.snapshot().done == 20
    tally.finished(result(Unit(0, 0)))
    assert tally.snapshot().done == 20


def test_the_rate_is_that_of_the_last_minute_and_gives_the_time_left() -> None:
    clock = Clock()
    tally = Tally(start(done=0), clock)
    clock.now += 300  # an engine loads
    tally.event(ShardEvent(Unit(0, 0), "log read", 0, 0))
    clock.now += RATE_WINDOW_S
    for second in range(30):
        clock.now += 1
        tally.event(ShardEvent(Unit(0, 0), "sample", second + 1, 0))
    now = tally.snapshot()
    assert now.rate == 30 / RATE_WINDOW_S
    assert now.eta_s == (60 - 30) / now.rate
    clock.now += 2 * RATE_WINDOW_S
    now = tally.snapshot()
    assert (now.rate, now.eta_s) == (0.0, None)
