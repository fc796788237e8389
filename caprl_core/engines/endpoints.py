"""Several addresses of one engine: the least busy one that is not resting gets the next request."""

import asyncio
import contextlib
import random
from collections.abc import Iterator, Sequence

from openai import AsyncOpenAI


class Endpoint:
    """One base URL, with its client and its state."""

    def __init__(self, url: str, client: AsyncOpenAI) -> None:
        self.url = url
        self.client = client
        self.in_flight = 0
        self.failures = 0
        """Failed attempts since the last good one."""
        self.rests_until = 0.0
        """Time of the event loop before which it gets no request."""

    @contextlib.contextmanager
    def busy(self) -> Iterator[None]:
        """Count one request in flight."""
        self.in_flight += 1
        try:
            yield
        finally:
            self.in_flight -= 1

    def rest(self, seconds: float) -> None:
        """Give it no request for a while."""
        self.rests_until = max(self.rests_until, asyncio.get_running_loop().time() + seconds)


class Endpoints:
    """All addresses of one engine."""

    def __init__(self, endpoints: Sequence[Endpoint]) -> None:
        self.all = tuple(endpoints)

    def choose(self, avoid: Endpoint | None) -> Endpoint:
        """The least busy address; one that rests, or failed this request last (`avoid`), only if there is no other.

        If all rest, the one that rests for the shortest time: the caller waits until then.
        """
        now = asyncio.get_running_loop().time()
        awake = [endpoint for endpoint in self.all if endpoint.rests_until <= now]
        if not awake:
            return min(self.all, key=lambda endpoint: endpoint.rests_until)
        others = [endpoint for endpoint in awake if endpoint is not avoid] or awake
        return min(others, key=lambda endpoint: (endpoint.in_flight, random.random()))
