"""Places of an engine are shared by priority, and never lost."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caprl_core.engines.slots import PrioritySlots


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_free_place_goes_to_the_lowest_priority_then_to_the_first_come():
    slots, order = PrioritySlots(1), []

    async def worker(name: str, priority: int) -> None:
        async with slots.hold(priority):
            order.append(name)

    async with slots.hold(0):
        tasks = [asyncio.create_task(worker(*who)) for who in [("young", 7), ("old", 3), ("old too", 3), ("oldest", 1)]]
        await settle()
        assert slots.waiting == 4
    await asyncio.gather(*tasks)
    assert order == ["oldest", "old", "old too", "young"]


async def test_a_newcomer_does_not_overtake_a_waiter_that_was_just_served():
    slots, order = PrioritySlots(1), []

    async def worker(name: str, priority: int) -> None:
        async with slots.hold(priority):
            order.append(name)
            await asyncio.sleep(0)

    async with slots.hold(0):
        waiter = asyncio.create_task(worker("waiter", 9))
        await settle()
    # The place is the waiter's already, although the waiter has not run yet.
    newcomer = asyncio.create_task(worker("newcomer", 0))
    await asyncio.gather(waiter, newcomer)
    assert order == ["waiter", "newcomer"]


async def test_a_place_handed_to_a_task_cancelled_in_the_same_turn_is_passed_on():
    slots = PrioritySlots(1)

    async def worker() -> str:
        async with slots.hold(0):
            return "held"

    async with slots.hold(0):
        cancelled, next_one = asyncio.create_task(worker()), asyncio.create_task(worker())
        await settle()
    cancelled.cancel()
    assert await next_one == "held"
    assert slots.free == 1
    with pytest.raises(asyncio.CancelledError):
        await cancelled


async def test_an_error_inside_gives_the_place_back():
    slots = PrioritySlots(2)
    with pytest.raises(RuntimeError):
        async with slots.hold(0):
            assert slots.free == 1
            raise RuntimeError
    assert slots.free == 2


def test_there_must_be_a_place():
    with pytest.raises(ValueError, match="places"):
        PrioritySlots(0)


ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("come"), st.integers(0, 3)),
        st.tuples(st.just("finish"), st.integers(0, 50)),
        st.tuples(st.just("cancel"), st.integers(0, 50)),
        st.tuples(st.just("turn"), st.just(0)),
    ),
    max_size=60,
)


@settings(max_examples=300, deadline=None)
@given(places=st.integers(1, 4), actions=ACTIONS)
def test_whatever_comes_goes_or_is_cancelled_places_are_neither_lost_nor_invented(places: int, actions: list) -> None:
    asyncio.run(play(places, actions))


async def play(places: int, actions: list) -> None:
    slots = PrioritySlots(places)
    holding: dict[int, asyncio.Event] = {}
    waiting: dict[int, tuple[int, int]] = {}
    tasks: dict[int, asyncio.Task] = {}

    async def worker(number: int, priority: int) -> None:
        waiting[number] = (priority, number)
        try:
            async with slots.hold(priority):
                del waiting[number]
                holding[number] = asyncio.Event()
                assert len(holding) <= places
                try:
                    await holding[number].wait()
                finally:
                    del holding[number]
        finally:
            waiting.pop(number, None)

    for number, (action, value) in enumerate(actions):
        if action == "come":
            tasks[number] = asyncio.create_task(worker(number, value))
        elif action == "finish" and holding:
            sorted(holding.items())[value % len(holding)][1].set()
        elif action == "cancel" and tasks:
            sorted(tasks.items())[value % len(tasks)][1].cancel()
        else:
            before = dict(waiting)
            await settle()
            served = [before[n] for n in before if n in holding]
            left = [before[n] for n in before if n in waiting]
            # Whoever was served was at least as important as everybody who waited then and still waits.
            assert not served or not left or max(served) <= min(left)
            assert slots.free == 0 or not waiting  # no place idles while somebody waits
            assert slots.free + len(holding) == places
    for event in holding.values():
        event.set()
    for _ in range(len(tasks) + 1):
        await settle()
        for event in holding.values():
            event.set()
    await asyncio.gather(*tasks.values(), return_exceptions=True)
    assert slots.free == places
