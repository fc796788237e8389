"""The write-ahead log of a shard attempt: finished samples become durable in the object store within seconds."""

import asyncio
import logging
from collections.abc import Callable, Collection
from typing import NamedTuple

import orjson

from caprl_core.data.row import Result, encode_line
from caprl_core.errors import ObjectMissingError
from caprl_core.storage.layout import Attempt, Unit
from caprl_core.storage.store import Store

logger = logging.getLogger(__name__)


class SampleLog:
    """Appends results; `append` returns once the result is durable. One flush is under way at a time.

    A segment is one whole object, so a killed writer leaves whole segments only. Results wait at most `flush_s` seconds
    or until `flush_samples` have gathered.
    """

    def __init__(
        self,
        store: Store,
        attempt: Attempt,
        *,
        flush_s: float,
        flush_samples: int,
        flushed: Callable[[], None] = lambda: None,
    ) -> None:
        self._store = store
        self._attempt = attempt
        self._flush_s = flush_s
        self._flush_samples = flush_samples
        self._flushed = flushed
        self._lines: list[bytes] = []
        self._durable: asyncio.Future[None] | None = None
        self._wake = asyncio.Event()
        self._segment = 0
        self._samples = 0
        self._failure: BaseException | None = None
        self._writing = asyncio.Lock()
        self._flusher: asyncio.Task[None] | None = None

    async def append(self, result: Result, engine_s: float = 0.0) -> None:
        """Add a result and wait until the object store has it. Raises `StoreError` if the store refused it.

        `engine_s` are seconds of the engine that the unit has used since its last result: what is not asked again is
        not paid again, and yet has been paid.
        """
        if self._failure is not None:
            raise self._failure
        line = {"key": result.key, "ledger": result.ledger, "row": result.row, "engine_s": round(engine_s, 6)}
        self._lines.append(encode_line(line))
        if self._durable is None:
            self._durable = asyncio.get_running_loop().create_future()
        if self._flusher is None:
            self._flusher = asyncio.create_task(self._flush_regularly())
        if len(self._lines) >= self._flush_samples:
            self._wake.set()
        await asyncio.shield(self._durable)

    def hurry(self) -> None:
        """Flush now, with the result that is appended next: nobody else will join it."""
        self._wake.set()

    async def close(self) -> None:
        """Write what is left and stop. A write that fails now is only logged: whoever waits for it is told by `append`,
        and what nobody waits for any more is asked again.
        """
        if self._flusher is not None:
            self._flusher.cancel()
            await asyncio.gather(self._flusher, return_exceptions=True)
            self._flusher = None
        if self._failure is None:
            await self._flush()
        if self._failure is not None:
            logger.warning("%s: the log ended early: %s", self._attempt.prefix, self._failure)

    async def _flush_regularly(self) -> None:
        while self._failure is None:
            try:
                async with asyncio.timeout(self._flush_s):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()
            # Shielded: cancelling the flusher while a segment is on its way must not lose or repeat the segment.
            await asyncio.shield(asyncio.ensure_future(self._flush()))

    async def _flush(self) -> None:
        async with self._writing:
            if not self._lines:
                return
            lines, self._lines = self._lines, []
            durable, self._durable = self._durable, None
            key = self._attempt.log_key(self._segment, self._samples + len(lines))
            try:
                await asyncio.to_thread(self._write, key, b"".join(lines))
                self._segment += 1
                self._samples += len(lines)
                self._flushed()
            except Exception as error:
                # Those who joined during the write wait for a segment that will never be written.
                self._failure = error
                _fail(durable, error)
                _fail(self._durable, error)
                return
            if durable is not None and not durable.done():
                durable.set_result(None)

    def _write(self, key: str, segment: bytes) -> None:
        self._store.put(key, segment)
        self._store.settle([key])


def _fail(waited_for: asyncio.Future[None] | None, error: Exception) -> None:
    if waited_for is not None and not waited_for.done():
        waited_for.set_exception(error)
        waited_for.exception()  # every waiter may already be cancelled: mark it as seen


class Logged(NamedTuple):
    """What the attempts at a unit have logged: results by key, and the seconds of engines that went into them."""

    results: dict[str, Result]
    engine_s: float


def read_log(store: Store, unit: Unit, ignored: Collection[str] = ()) -> dict[str, Result]:
    """The results of `read_logged`."""
    return read_logged(store, unit, ignored).results


def read_logged(store: Store, unit: Unit, ignored: Collection[str] = ()) -> Logged:
    """Every sample in the logs of all attempts at a unit, by key; of several results for a key the oldest is taken.

    `ignored` names attempts whose results do not count (an operator had their shard redone); they were paid for. A
    segment that cannot be read costs a warning: its samples are simply asked again.
    """
    results: dict[str, Result] = {}
    engine_s = 0.0
    segments = sorted(item.key for item in store.list(unit.attempts_prefix) if "/log/" in item.key)
    for key in segments:
        counts = key.split("/")[2] not in ignored
        try:
            lines = store.get(key).splitlines()
        except ObjectMissingError:
            continue  # swept between the listing and now: the unit is committed, and the commit will be seen
        for number, line in enumerate(lines, start=1):
            try:
                entry = orjson.loads(line)
                result = Result(entry["key"], entry["ledger"]["index"], entry["ledger"], entry["row"])
                engine_s += float(entry.get("engine_s", 0.0))
            except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
                logger.warning("%s/%s line %d cannot be read; its sample is asked again", store.uri, key, number)
                continue
            if counts:
                results.setdefault(result.key, result)
    return Logged(results, engine_s)
