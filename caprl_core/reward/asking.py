"""All requests of a step through an engine: as many in flight as it wants, in order; failures are asked again last."""

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Protocol, TypeVar

from caprl_core.data.reasons import Reason
from caprl_core.engines.protocol import Engine, Reply, Request
from caprl_core.errors import SampleFailedError


class Ask(Protocol):
    """A request to be made."""

    def request(self, request_id: str) -> Request:
        """The request under an id of its own; made only when it is sent, so few long prompts are in memory at once."""
        ...


Asked = TypeVar("Asked", bound=Ask)
Item = TypeVar("Item")


async def ask_all(
    asks: Sequence[Asked], engine: Engine, *, retries: int, answered: Callable[[Asked, Reply], None]
) -> None:
    """Ask everything, `answered` being told each reply as it comes; what is never answered is told nobody.

    A request that fails for good is asked again up to `retries` times, after all others; one that the engine refuses
    (a prompt too long) is not, as it would be refused again. Raises `EngineDeadError`; cancelled, it frees the engine.
    """
    # Ids are unique within the engine's life, and an engine may serve several callers.
    call = uuid.uuid4().hex
    waiting = list(asks)
    for round_ in range(retries + 1):
        if not waiting:
            return
        waiting = await _round(waiting, engine, f"reward/{call}/{round_}", answered)


async def _round(
    asks: Sequence[Asked], engine: Engine, name: str, answered: Callable[[Asked, Reply], None]
) -> list[Asked]:
    """Ask each once; returns those to be asked again."""
    again: list[Asked] = []

    async def ask(item: tuple[int, Asked]) -> None:
        number, one = item
        try:
            reply = await engine.generate(one.request(f"{name}/{number}"))
        except SampleFailedError as error:
            if error.reason != Reason.REQUEST_REFUSED:
                again.append(one)
        else:
            answered(one, reply)

    await _in_flight(enumerate(asks), engine.concurrency, ask)
    return again


async def _in_flight(items: Iterable[Item], most: int, work: Callable[[Item], Awaitable[None]]) -> None:
    """Work on all items, begun in order, `most` at a time. The first error ends the others and is raised itself."""
    left = iter(items)

    async def worker() -> None:
        for item in left:
            await work(item)

    workers = [asyncio.ensure_future(worker()) for _ in range(most)]
    try:
        await asyncio.gather(*workers)
    finally:
        for task in workers:
            task.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
