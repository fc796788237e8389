"""Slices: how large they are, how they are written, and whose they are when lanes die, dawdle or join late."""

from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caprl_core.errors import BadInputError
from caprl_core.shards.allotment import MAX_TRIES, Allotment
from caprl_core.shards.slices import parse_units, show_units, slice_size
from caprl_core.storage.layout import Unit


def units(count: int) -> list[Unit]:
    return [Unit(shard, 0) for shard in range(count)]


def allotment(shards: int, lanes: int, fill: int = 4) -> Allotment:
    return Allotment(units(shards), lanes=lanes, fill=fill, shard_samples=1000)


@given(st.lists(st.builds(Unit, st.integers(0, 60), st.integers(0, 3)), unique=True, min_size=1))
def test_a_slice_is_read_as_it_was_written(slice_: list[Unit]) -> None:
    assert parse_units(show_units(slice_), 61) == slice_


def test_ranges_lists_and_revisions() -> None:
    assert show_units([*units(4), Unit(7, 0), Unit(9, 1)]) == "0-3,7,9.r1"
    assert parse_units("0-2, 1", 5) == units(3)
    assert parse_units([3, 1], 5) == [Unit(3, 0), Unit(1, 0)]


@pytest.mark.parametrize("wrong", ["", "a", "3-1", "0-5", "-1", [5], [-1]])
def test_what_is_no_slice_is_refused(wrong: str | list[int]) -> None:
    with pytest.raises(BadInputError, match="shards:"):
        parse_units(wrong, 5)


def test_the_first_slices_fill_an_engine_and_the_later_ones_are_ten_minutes_work() -> None:
    assert slice_size(2000, 8, 1, fill=4, shard_samples=1000, rate=None) == 4
    # 20 samples/s for 600 s are 12 shards of 1000.
    assert slice_size(2000, 8, 1, fill=4, shard_samples=1000, rate=20.0) == 12


def test_slices_shrink_towards_the_end_but_fill_an_engine() -> None:
    sizes = [slice_size(waiting, 8, 1, fill=4, shard_samples=1000, rate=20.0) for waiting in (2000, 150, 100, 60, 8, 1)]
    assert sizes == [12, 10, 7, 4, 4, 1]


def test_idle_lanes_share_what_is_left() -> None:
    ours = allotment(6, 4)
    assert [len(ours.give(lane, None)) for lane in range(5)] == [2, 2, 1, 1, 0]


@given(st.integers(1, 400), st.integers(1, 70), st.integers(1, 16), st.none() | st.floats(0.01, 1e4))
def test_slices_cover_everything_once(shards: int, lanes: int, fill: int, rate: float | None) -> None:
    given_out: list[Unit] = []
    ours = allotment(shards, lanes, fill)
    for lane in count():
        slice_ = ours.give(lane, None if rate is None else rate)
        if not slice_:
            break
        given_out += slice_
        ours.settled(slice_)
    assert given_out == units(shards)
    assert not ours.open


def test_what_a_lost_lane_held_goes_first_to_the_next() -> None:
    ours = allotment(20, 2)
    lost = ours.give(1, None)
    other = ours.give(2, None)
    ours.settled(lost[:1])
    assert ours.ended(1, tried=()) == []
    assert ours.give(3, None)[: len(lost) - 1] == lost[1:]
    assert not set(ours.held(3)) & set(other), "two lanes hold one shard"


def test_a_shard_that_ends_lane_after_lane_is_left_alone() -> None:
    ours = allotment(20, 2)
    poison = Unit(2, 0)
    for lane in range(MAX_TRIES):
        assert poison in ours.give(lane, None)
        spent = ours.ended(lane, tried=[poison])
        assert spent == ([poison] if lane == MAX_TRIES - 1 else [])
    rest: list[Unit] = []
    for lane in range(MAX_TRIES, 20):
        rest += ours.give(lane, None)
    assert sorted(rest) == [unit for unit in units(20) if unit != poison], "the innocent ones go on"


def test_a_free_lane_takes_half_of_what_the_busiest_has_not_begun() -> None:
    ours = allotment(40, 1)
    ours.give(1, 30.0)
    held = ours.held(1)
    ours.settled([unit for unit in units(40) if unit not in held])  # nothing waits
    begun = held[:4]
    taken = ours.give(2, 3.0, begun)
    untouched = held[4:]
    assert taken == untouched[(len(untouched) + 1) // 2 :]
    assert not set(ours.held(1)) & set(taken)
    assert ours.give(3, None, begun) == [], "before a rate is known nobody knows whether it pays"
    assert ours.give(3, 1e6, begun) == [], "not worth loading an engine"
