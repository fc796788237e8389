"""A counting semaphore whose free places go to the most important waiter, not to the one that has waited longest."""

import asyncio
import contextlib
import heapq
import itertools
from collections.abc import AsyncIterator


class PrioritySlots:
    """`places` holders at most; a free place goes to the waiter with the lowest (priority, arrival).

    A priority is one number, or several compared in turn; all holders give the same count of them. Overlapping shards
    share one engine through it: the older shard's samples go first, so that it is committed early, and the younger
    one's fill whatever the tail of the older leaves free. For tasks of one event loop.
    """

    def __init__(self, places: int) -> None:
        if places < 1:
            raise ValueError(f"places: at least 1, got {places}")
        self._free = places
        self._arrivals = itertools.count()
        self._waiters: list[tuple[tuple[int, ...], int, asyncio.Future[None]]] = []

    @property
    def free(self) -> int:
        """Places nobody holds."""
        return self._free

    @property
    def waiting(self) -> int:
        """Tasks that wait for a place."""
        return sum(not place.done() for _, _, place in self._waiters)

    @contextlib.asynccontextmanager
    async def hold(self, *priority: int) -> AsyncIterator[None]:
        """Wait for a place and keep it inside the `async with`; lower priorities are served first."""
        await self._acquire(priority)
        try:
            yield
        finally:
            self._release()

    async def _acquire(self, priority: tuple[int, ...]) -> None:
        # A free place means that nobody waits: a release hands its place over at once.
        if self._free > 0:
            self._free -= 1
            return
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiters, (priority, next(self._arrivals), place))
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():
                self._release()  # the place had just been handed to us: pass it on
            else:
                place.cancel()  # stays in the heap until it comes up, and is skipped there
            raise

    def _release(self) -> None:
        while self._waiters:
            _, _, place = heapq.heappop(self._waiters)
            if not place.done():
                place.set_result(None)
                return
        self._free += 1
