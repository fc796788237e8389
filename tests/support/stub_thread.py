"""The stub server in a thread of the test's own process, so that a test can read its books and change its manners."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from caprl_core.world.stub_server import StubBehaviour, StubServer


@contextmanager
def running_stub(behaviour: StubBehaviour | None = None) -> Iterator[StubServer]:
    """A listening server; replace its `behaviour` to change it."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    server = StubServer(behaviour)

    def call(work: Any) -> None:
        asyncio.run_coroutine_threadsafe(work, loop).result(30)

    call(server.__aenter__())
    try:
        yield server
    finally:
        call(server.__aexit__())
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def seeds(server: StubServer) -> list[int]:
    """The seed of each request so far: it is different for each sample and attempt."""
    return [int(request["seed"]) for request in server.requests]
