"""Slices: how large they are, how they are written, and whose they are when lanes die, dawdle or join late."""

from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caprl_core.errors import BadInputError
from caprl_core.shards.allotment import MAX_TRIES, Allotment
from caprl_core.shards.slices import lane_rate, parse_units, show_units, slice_size
from caprl_core.storage.commit import Usage
from caprl_core.storage.layout import Unit
from support.commit_records import commit_record


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


def test_what_a_lost_lane_held_goes_to_an_engine_that_is_there() -> None:
    ours = allotment(20, 2)
    lost = ours.give(1, None)
    other = ours.give(2, None)
    ours.settled(lost[:1])
    assert ours.ended(1, tried=()) == []
    assert not set(ours.give(3, None)) & set(lost), "nobody knows when lane 3 begins"
    assert ours.give(2, None, loaded=True)[0] == lost[1]
    assert not set(ours.held(2)) & set(ours.held(3)), "two lanes hold one shard"
    assert set(other) < set(ours.held(2))


def test_a_shard_that_ends_lane_after_lane_is_left_alone() -> None:
    ours = allotment(20, 2)
    poison = Unit(2, 0)
    for lane in range(MAX_TRIES):
        assert poison in ours.give(lane, None, loaded=True)
        spent = ours.ended(lane, tried=[poison])
        assert spent == ([poison] if lane == MAX_TRIES - 1 else [])
    rest: list[Unit] = []
    for lane in range(MAX_TRIES, 20):
        rest += ours.give(lane, None)
    assert sorted(rest) == [unit for unit in units(20) if unit != poison], "the innocent ones go on"


def test_a_lane_gets_more_while_its_engine_still_has_work_but_never_hoards() -> None:
    ours = allotment(100, 2)
    held = ours.give(1, 10.0)
    assert len(held) == 6, "ten minutes at 10 samples/s"
    assert ours.give(1, 10.0, loaded=True) == []
    ours.settled(held[:2])
    assert ours.give(1, 10.0, loaded=True) == units(100)[6:8]
    assert len(ours.held(1)) == 6


def test_a_free_lane_takes_half_of_what_the_busiest_has_not_begun() -> None:
    ours = allotment(40, 1)
    ours.give(1, 30.0)
    held = ours.held(1)
    ours.settled([unit for unit in units(40) if unit not in held])  # nothing waits
    begun, untouched = held[:4], held[4:]
    assert ours.give(2, None, begun) == [], "before a rate is known nobody knows whether it pays"
    assert ours.give(2, 1e6, begun) == [], "not worth loading an engine"
    taken = ours.give(2, 3.0, begun)
    assert taken == untouched[len(untouched) // 2 :]
    assert not set(ours.held(1)) & set(taken)
    assert ours.give(3, 1e6, begun, loaded=True), "an engine that is there anyway takes whatever it can"


def test_at_the_very_end_an_idle_engine_shares_what_was_begun_first_each_once() -> None:
    ours = allotment(2, 2, fill=1)
    assert [ours.give(lane, None) for lane in (1, 2)] == [units(1), [Unit(1, 0)]]
    begun = [Unit(1, 0), Unit(0, 0)]
    assert ours.give(3, 5.0, begun) == [], "not worth loading an engine"
    assert ours.give(3, 5.0, begun, loaded=True) == [Unit(1, 0)]
    assert ours.give(4, 5.0, begun, loaded=True) == [Unit(0, 0)]
    assert ours.give(5, 5.0, begun, loaded=True) == []
    assert ours.ended(3, tried=()) == []
    assert ours.give(6, None) == [], "lane 2 still works it"
    assert ours.give(6, None, begun, loaded=True) == [Unit(1, 0)], "one of its two lanes is gone"
    ours.settled(units(2))
    assert not ours.open


def test_what_an_idle_lane_shares_with_another_is_its_own_even_if_nobody_has_anything_untouched() -> None:
    ours = Allotment(units(3), lanes=3, fill=2, shard_samples=10)
    for lane in (1, 2, 3):
        ours.give(lane, 1.0)
    begun = [*ours.held(2), *ours.held(3)]
    ours.settled(ours.held(1))
    more = ours.give(1, 1.0, begun, loaded=True)
    assert more == begun[:1]
    assert ours.held(1) == more


def test_two_idle_lanes_do_not_take_a_shard_from_one_another_for_ever() -> None:
    ours = allotment(1, 2)
    assert ours.give(1, 5.0, loaded=True) == units(1)
    assert ours.give(2, 5.0, loaded=True) == [], "lane 1 is about to begin it"
    assert ours.give(2, 5.0, units(1), loaded=True) == units(1), "begun, it may be shared"


def test_what_a_lane_without_a_worker_holds_may_all_be_taken() -> None:
    ours = allotment(2, 2, fill=1)
    assert ours.give(1, 5.0) == units(1)
    assert ours.give(2, 5.0, loaded=True) == [Unit(1, 0)]
    ours.settled([Unit(1, 0)])
    assert ours.give(2, 5.0, loaded=True) == units(1)


@given(st.data())
def test_whatever_lanes_do_every_shard_is_done_or_spent_and_none_is_forgotten(data: st.DataObject) -> None:
    """Lanes begin, finish, die and get more in any order: what is not settled or spent always waits or is held."""
    everything = units(data.draw(st.integers(1, 12)))
    ours = allotment(len(everything), 3, fill=data.draw(st.integers(1, 4)))
    lanes, number = [], 0
    begun: list[Unit] = []
    over: set[Unit] = set()
    for _ in range(200):
        if not ours.open:
            break
        action = data.draw(st.sampled_from(["start", "more", "begin", "finish", "die"]))
        if action == "start" or not lanes:
            number += 1
            if ours.give(number, 10.0, begun):
                lanes.append(number)
            continue
        lane = data.draw(st.sampled_from(lanes))
        held = ours.held(lane)
        if action == "more":
            more = ours.give(lane, 10.0, begun, loaded=True)
            assert not over & set(more)
        elif action == "begin" and held:
            begun += [held[0]] if held[0] not in begun else []
        elif action == "finish" and held:
            ours.settled(held[:1])
            over.update(held[:1])
        elif action == "die":
            lanes.remove(lane)
            over.update(ours.ended(lane, [unit for unit in held if unit in begun]))
        known = over | {unit for other in lanes for unit in ours.held(other)} | set(ours._waiting) | set(ours._returned)
        assert known == set(everything)
    if not ours.open:
        assert over == set(everything)


def test_the_rate_counts_samples_and_the_seconds_of_all_attempts_at_them() -> None:
    """70 of 80 were asked by an engine that died; 1.6 s of engines went into the shard all the same."""
    record = commit_record(Unit(0, 0), samples=80, usage=Usage(engine_s=1.6, wall_s=0.3, resumed=70))
    assert lane_rate([record]) == pytest.approx(50.0)
    assert lane_rate([]) is None
