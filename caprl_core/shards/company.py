"""Who is in the engine: known at the moment it dies, and kept small for samples an engine has died with before.

Samples are asked together, as many as the engine takes. Suspects are asked in sessions, during which nobody else is in
the engine. When an engine dies, those inside at that moment are its victims; who comes later is turned away.
"""

import asyncio
import itertools
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from caprl_core.engines.protocol import Answers, Reply, Request, Sampling
from caprl_core.errors import EngineDeadError
from caprl_core.storage.layout import Unit

logger = logging.getLogger(__name__)


class Company:
    """Of one engine, from its start to its end. Used from one event loop."""

    def __init__(self) -> None:
        self.death: str | None = None
        """What was said when the engine died; None while it lives."""
        self.logged = 0
        """Samples that it answered and the log has."""
        self._victims: frozenset[tuple[Unit, str]] = frozenset()
        self._in_session = False
        self._inside: list[tuple[Unit, str]] = []
        self._admitted = 0
        self._sessions = 0  # under way or waiting; they are few, so others wait for all of them
        self._wakened: list[asyncio.Future[None]] = []
        self._trifles = itertools.count()

    @property
    def fruitful(self) -> bool:
        """Whether this engine brought the work forward: a sample in the log, or a death that points at suspects."""
        return self.logged > 0 or (self._in_session and bool(self._victims))

    def victims(self, unit: Unit) -> list[str]:
        """Keys of the unit's samples that were in the engine when it died, sorted."""
        return sorted({key for owner, key in self._victims if owner == unit})

    def died_without(self, unit: Unit) -> bool:
        """Whether the engine died of others' samples: this unit had none in it."""
        return bool(self._victims) and not self.victims(unit)

    @asynccontextmanager
    async def together(self) -> AsyncIterator[None]:
        """One sample among others: waits while there are sessions. Raises `EngineDeadError` when it has died."""
        while self._sessions and self.death is None:
            await self._change()
        self._require_life()
        self._admitted += 1
        try:
            yield
        finally:
            self._admitted -= 1
            self._changed()

    @asynccontextmanager
    async def session(self) -> AsyncIterator[None]:
        """Nobody else is inside: waits until all others are out. Raises `EngineDeadError` when it has died."""
        self._sessions += 1
        try:
            while (self._admitted or self._in_session) and self.death is None:
                await self._change()
            self._require_life()
            self._in_session = True
            try:
                yield
            finally:
                # After a death it tells how the engine died.
                self._in_session = self.death is not None
        finally:
            self._sessions -= 1
            self._changed()

    async def prove(self, engine: Answers) -> None:
        """Ask for one token: should the engine die now, it dies of nobody. Raises `EngineDeadError`."""
        trifle = Request(f"trifle-{next(self._trifles)}/1/0", "Hello", Sampling(temperature=0, max_tokens=1))
        try:
            await engine.generate(trifle)
        except EngineDeadError as error:
            self.died(str(error))
            raise
        except Exception as error:
            # Refused, or answered with junk: only a living engine does either.
            logger.debug("the trifle came to nothing: %r", error)

    @contextmanager
    def inside(self, unit: Unit, key: str) -> Iterator[None]:
        """A request of a sample is in the engine."""
        self._inside.append((unit, key))
        try:
            yield
        finally:
            self._inside.remove((unit, key))

    def died(self, words: str) -> None:
        """The first to see the death tells who else was in the engine."""
        if self.death is None:
            self.death = words
            self._victims = frozenset(self._inside)
            self._changed()

    def _require_life(self) -> None:
        if self.death is not None:
            raise EngineDeadError(self.death)

    async def _change(self) -> None:
        change = asyncio.get_running_loop().create_future()
        self._wakened.append(change)
        await change

    def _changed(self) -> None:
        waiting, self._wakened = self._wakened, []
        for change in waiting:
            if not change.done():
                change.set_result(None)


class WatchedEngine:
    """The engine as one unit's samples reach it: their company is kept."""

    def __init__(self, engine: Answers, company: Company, unit: Unit) -> None:
        self._engine = engine
        self._company = company
        self._unit = unit

    async def generate(self, request: Request) -> Reply:
        """What the engine answers or raises."""
        with self._company.inside(self._unit, request.request_id.split("/")[0]):
            try:
                return await self._engine.generate(request)
            except EngineDeadError as error:
                self._company.died(str(error))
                raise
