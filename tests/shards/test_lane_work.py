"""What a lane is told to work: first what it was started with, then whatever is written for it, each unit once."""

from pathlib import Path

import pytest

from caprl_core.errors import BadInputError
from caprl_core.shards.lane_work import PATIENCE_S, POLL_S, LaneWork, begin_run, forget_run, tell_lane, work_key
from caprl_core.storage.layout import Unit
from caprl_core.storage.store import Store


def units(*shards: int) -> list[Unit]:
    return [Unit(shard, 0) for shard in shards]


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Told:
    """A lane's work, and the hand that writes it."""

    def __init__(self, folder: Path, first: list[Unit]) -> None:
        self.store = Store(str(folder))
        self.run = begin_run()
        self.key = work_key(self.run, 1)
        self.clock = Clock()
        self.warnings: list[str] = []
        self.work = LaneWork(self.store, self.key, first, shards=10, tell=self.warnings.append, clock=self.clock)

    def tell(self, some: list[Unit], *, more: bool = True) -> None:
        tell_lane(self.store, self.key, some, more=more)
        self.clock.now += POLL_S

    def take_all(self, *, busy: bool = True) -> list[int]:
        taken = []
        while (unit := self.work.take(busy)) is not None:
            taken.append(unit.shard)
        return taken


@pytest.fixture
def told(tmp_path: Path) -> Told:
    one = Told(tmp_path, units(0, 1))
    one.tell(units(0, 1))
    return one


def test_without_a_key_there_is_what_there_was(tmp_path: Path) -> None:
    work = LaneWork(Store(str(tmp_path)), None, units(3, 1), shards=10)
    assert [work.take(False), work.take(True)] == units(3, 1)
    assert not work.open
    assert work.take(True) is None


def test_more_is_handed_out_when_it_is_told_and_each_unit_once(told: Told) -> None:
    assert told.take_all() == [0, 1]
    assert told.work.open
    told.tell(units(0, 1, 2, 5))
    assert told.take_all() == [2, 5]
    told.tell(units(5, 7))
    assert told.take_all() == [7]


def test_what_others_took_before_the_lane_came_to_it_is_gone(told: Told) -> None:
    told.tell(units(0, 1, 2, 3))
    assert told.work.take(True) == Unit(0, 0)
    told.tell(units(0, 1))
    assert told.take_all() == [1]


def test_it_ends_when_nothing_more_comes(told: Told) -> None:
    told.tell(units(0, 1, 2), more=False)
    assert told.take_all() == [0, 1, 2]
    assert not told.work.open


def test_a_lane_with_nothing_to_do_waits_for_a_minute_but_one_at_work_for_ever(told: Told) -> None:
    told.take_all()
    told.clock.now += 10 * PATIENCE_S
    assert told.work.take(busy=True) is None
    assert told.work.open
    told.clock.now += PATIENCE_S - 1
    assert told.work.take(busy=False) is None
    assert told.work.open
    told.clock.now += 2
    assert told.work.take(busy=False) is None
    assert not told.work.open


def test_it_ends_when_the_run_has_tidied_up(told: Told) -> None:
    forget_run(told.store, told.run)
    assert list(told.store.list("lanes")) == []
    assert told.take_all() == [0, 1]
    assert not told.work.open


@pytest.mark.parametrize(
    "junk",
    [
        b"",
        b"\xff",
        b"[]",
        b"7",
        b'{"shards": 7, "more": true}',
        b'{"shards": "0-99", "more": true}',
        b'{"shards": "../x", "more": 1}',
    ],
)
def test_what_cannot_be_understood_adds_nothing_and_is_told(told: Told, junk: bytes) -> None:
    told.store.put(told.key, junk)
    told.clock.now += POLL_S
    assert told.take_all() == [0, 1]
    assert not told.work.open
    assert "cannot be understood" in told.warnings[0]


@pytest.mark.parametrize("key", ["dataset.json", "../x", "lanes/../../x.json", "lanes/1/2.json", "/etc/passwd", ""])
def test_a_key_that_no_run_wrote_is_refused(tmp_path: Path, key: str) -> None:
    with pytest.raises(BadInputError, match="not the name of a lane's work"):
        LaneWork(Store(str(tmp_path)), key, [], shards=1)
