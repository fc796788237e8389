"""The shard runner: read, decode, ask, log, gate, pack, commit. The one mechanism behind every model-driven stage.

One asyncio task a sample, no batch and no barrier. Two bounds: a lane holds a limited number of images ahead of the
engine, and at most `window` samples of a shard are between their first request and the log, so that a killed shard
loses no more than that.
"""

import asyncio
import datetime as dt
import logging
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path

from caprl_core.data.reasons import Reason
from caprl_core.data.row import Result
from caprl_core.data.sample import PlannedSample
from caprl_core.errors import DiskFullError, EngineDeadError, SampleFailedError, ShardQuarantinedError
from caprl_core.shards.asking import Asker
from caprl_core.shards.company import WatchedEngine
from caprl_core.shards.events import Observer, ShardEvent, ShardResult, Step
from caprl_core.shards.failures import worst
from caprl_core.shards.gate import EXAMPLES, Ruling, breaches, quarantine, read_ruling
from caprl_core.shards.lane_parts import LaneParts
from caprl_core.shards.pack import PackedObject, pack
from caprl_core.shards.previous import PreviousRevision, nothing_before
from caprl_core.shards.results import Asked, rejected, withdrawn
from caprl_core.shards.rivals import CommittedElsewhereError, watch_for_a_commit
from caprl_core.shards.sample_images import SampleImages
from caprl_core.shards.scratch import scratch_folder
from caprl_core.shards.spool import Spool
from caprl_core.shards.stage import Drop
from caprl_core.shards.suspects import Statement, Suspicion, groups, read_suspicion
from caprl_core.storage.commit import CommitRecord, CommittedObject, Usage, commit, read_commit
from caprl_core.storage.free_space import disk_full
from caprl_core.storage.layout import Attempt, Unit
from caprl_core.storage.log import SampleLog, read_logged
from caprl_core.storage.publish import publish, sweep_unit

logger = logging.getLogger(__name__)


class ShardRunner:
    """One attempt at one unit."""

    def __init__(
        self, parts: LaneParts, unit: Unit, priority: int, observe: Observer, previous: PreviousRevision | None = None
    ) -> None:
        self._parts = parts
        self._unit = unit
        self._priority = priority
        self._observe = observe
        self._previous = previous or nothing_before()
        self._store = parts.dataset.store
        self._recipe = parts.recipe
        self._attempt = Attempt.begin(unit)
        self._images = SampleImages(parts.recipe, parts.stage, parts.reader, parts.decoder, self._previous)
        self._asker = Asker(
            unit,
            priority,
            stage=parts.stage,
            engine=WatchedEngine(parts.engine, parts.company, unit),
            info=parts.info,
            slots=parts.slots,
            meter=parts.meter,
            recipe=parts.recipe,
        )
        runner = parts.recipe.execution.runner
        concurrency = parts.engine.concurrency
        window, prefetch = runner.window or 3 * concurrency, max(8, concurrency)
        self._window = asyncio.Semaphore(window)
        self._prefetch = asyncio.Semaphore(prefetch)
        self._statement = Statement(self._store, self._attempt, reach=window + prefetch)
        self._log = SampleLog(
            self._store,
            self._attempt,
            flush_s=runner.flush_s,
            # Half a window at most may wait for a flush, or samples in the engine would wait for the log.
            flush_samples=max(1, min(64, window // 2)),
            flushed=lambda: self._step("log flushed"),
        )
        self._results: dict[str, Result] = {}
        self._started = time.monotonic()
        self._resumed = 0
        self._engine_s = 0.0
        self._unlogged = 0
        self._over = False
        self._rejected = 0
        self._suspicion = Suspicion({}, {})

    async def run(self) -> ShardResult:
        """Finish the unit, or find it finished. Raises `EngineDeadError`, `ShardQuarantinedError`, `StoreError`,
        `DiskFullError` or another `OSError` (local scratch space), or `BadInputError` (a whole root is wrong); the log
        keeps what was done.
        """
        try:
            return await self._work()
        except BaseException as error:
            if not self._over:
                # So that nobody takes it for one at work, and leaves its shard alone.
                await asyncio.shield(self._statement.end())
            if not isinstance(error, OSError):
                raise
            scratch = self._recipe.execution.runner.spool_dir
            full = disk_full(error, Path(scratch or tempfile.gettempdir()))
            if full is None:
                raise
            raise DiskFullError(
                f"shard {self._unit.shard}: {full}, or choose another execution.runner.spool_dir"
            ) from error

    async def _work(self) -> ShardResult:
        if await asyncio.to_thread(self._store.size, self._unit.commit_key) is not None:
            return await self._finish(await asyncio.to_thread(read_commit, self._store, self._unit))
        samples = await asyncio.to_thread(self._parts.dataset.plan.shard, self._unit.shard)
        ruling = await asyncio.to_thread(read_ruling, self._store, self._unit)
        self._results = dict(self._previous.kept)
        logged = await asyncio.to_thread(read_logged, self._store, self._unit, ruling.ignored)
        self._engine_s = logged.engine_s
        resumed = {sample.key: logged.results[sample.key] for sample in samples if sample.key in logged.results}
        self._results |= resumed
        self._resumed = len(resumed)
        self._rejected = sum(result.rejected for result in self._results.values())
        self._step("log read")
        with (
            scratch_folder(self._recipe.execution.runner.spool_dir) as folder,
            Spool(folder / "spool") as spool,
        ):
            try:
                await self._ask_all(await self._still_to_ask(samples, ruling), spool)
            except CommittedElsewhereError:
                return await self._finish(await asyncio.to_thread(read_commit, self._store, self._unit))
            self._step("all logged")
            if not ruling.accepted:
                await self._judge()
            if await self._restore(samples, spool) and not ruling.accepted:
                await self._judge()
            self._step("gated")
            packed = await asyncio.to_thread(self._pack, samples, spool, folder)
            self._step("packed")
            for item in packed:
                await asyncio.to_thread(self._store.put_file, self._attempt.object_key(item.role), item.path)
                self._step(f"{item.role} put")
        now = await asyncio.to_thread(self._store.now)
        record = await asyncio.to_thread(commit, self._store, self._record(packed, now))
        self._step("committed")
        return await self._finish(record)

    async def _still_to_ask(self, samples: list[PlannedSample], ruling: Ruling) -> list[PlannedSample]:
        """Those without a result; what is condemned gets one. Learns who the suspects are."""
        left = [sample for sample in samples if sample.key not in self._results]
        if not left or not self._parts.stage.asks:
            # Said all the same: an attempt that dies of its packing is then known to have begun.
            await self._statement.name(())
            return left
        # First: its age by the store's clock is what those of others are compared with.
        await self._statement.make()
        limit = self._recipe.execution.runner.engine_deaths
        keys = [sample.key for sample in left]
        self._suspicion = await asyncio.to_thread(
            read_suspicion, self._store, self._attempt, keys, limit, ruling.ignored
        )
        condemned = self._suspicion.condemned
        for sample in left:
            if sample.key in condemned:
                detail = f"{condemned[sample.key]} engines died with it, one with nothing else inside"
                self._results[sample.key] = self._unasked(sample, Drop(Reason.ENGINE_DIED, detail, retry=False))
                self._rejected += 1
        return [sample for sample in left if sample.key not in condemned]

    async def _ask_all(self, samples: list[PlannedSample], spool: Spool) -> None:
        self._unlogged = len(samples)
        suspects = self._suspicion.suspects
        died_with: list[str] = []
        failed = True
        try:
            async with asyncio.TaskGroup() as whole:
                watch = whole.create_task(watch_for_a_commit(self._store, self._unit))
                await self._ask_suspects([sample for sample in samples if sample.key in suspects], spool)
                async with asyncio.TaskGroup() as group:
                    for sample in samples:
                        if sample.key not in suspects:
                            await self._prefetch.acquire()
                            group.create_task(self._one(sample, spool))
                watch.cancel()
            failed = False
        except BaseExceptionGroup as failures:
            cause = worst(failures)
            if isinstance(cause, EngineDeadError):
                died_with = self._parts.company.victims(self._unit)
            raise cause from failures
        finally:
            await asyncio.shield(self._log.close())
            if failed and self._parts.stage.asks:
                await asyncio.shield(self._statement.end(died_with))

    async def _ask_suspects(self, samples: list[PlannedSample], spool: Spool) -> None:
        """In groups with nobody else in the engine, each named in the store before it is asked."""
        if not samples:
            return
        logger.warning(
            "shard %s: engines or lanes died with these samples; asking %d of them apart", self._unit, len(samples)
        )
        planned = {sample.key: sample for sample in samples}
        limit = self._recipe.execution.runner.engine_deaths
        await self._statement.name(())
        async with self._parts.company.session():
            for keys in groups(self._suspicion.suspects, limit, self._parts.engine.concurrency):
                await self._parts.company.prove(self._parts.engine)
                await self._statement.name(tuple(keys))
                async with asyncio.TaskGroup() as group:
                    for key in keys:
                        group.create_task(self._suspect(planned[key], spool))
        await self._statement.name(None)

    async def _suspect(self, sample: PlannedSample, spool: Spool) -> None:
        """As `_one`, but nothing runs ahead: the places there may be held by those who wait for the session's end."""
        try:
            image = await self._images.prepared(sample)
        except SampleFailedError as error:
            await self._done(self._unasked(sample, Drop(error.reason, error.detail, retry=False)))
            return
        first = self._previous.attempts(sample.key) + 1
        result, member = await self._asker.ask(sample, image, first, entered=_nothing)
        if member is not None:
            spool.add(sample.key, member)
        self._log.hurry()
        await self._done(result)
        self._parts.company.logged += 1

    async def _one(self, sample: PlannedSample, spool: Spool) -> None:
        """Read, decode, ask, keep the bytes, log."""
        async with AsyncExitStack() as ahead:
            ahead.callback(self._prefetch.release)
            try:
                await ahead.enter_async_context(self._parts.ahead.hold(self._priority))
                image = await self._images.prepared(sample)
            except SampleFailedError as error:
                # Waiting for the log takes up to `flush_s`; a run of missing images must not go at that pace.
                await ahead.aclose()
                await self._done(self._unasked(sample, Drop(error.reason, error.detail, retry=False)))
                return
            await self._window.acquire()
            first = self._previous.attempts(sample.key) + 1
            async with self._parts.company.together():
                result, member = await self._asker.ask(sample, image, first, entered=ahead.aclose)
            del image
            # A sample that was not asked about has not entered: its place must not wait for the log either.
            await ahead.aclose()
            if member is not None:
                spool.add(sample.key, member)
            del member
            await self._done(result)
            self._parts.company.logged += 1
            # Not where anything failed: the attempt ends, and whoever took the place would be asked in vain.
            self._window.release()

    def _unasked(self, sample: PlannedSample, drop: Drop) -> Result:
        """A sample that is rejected without a question to the engine."""
        return rejected(sample, drop, Asked(attempt=self._previous.attempts(sample.key)), None)

    async def _done(self, result: Result) -> None:
        """Log a result; it counts once the store has it."""
        self._unlogged -= 1
        if not self._unlogged:
            # The last sample of a shard would wait up to flush_s for company that cannot come.
            self._log.hurry()
        engine_s = self._parts.meter.take(self._unit)
        self._engine_s += engine_s
        await self._log.append(result, engine_s)
        self._results[result.key] = result
        self._rejected += result.rejected
        self._step("sample")

    async def _judge(self) -> None:
        found = breaches(self._results, self._recipe.execution.gate)
        if found:
            key = await asyncio.to_thread(quarantine, self._store, self._attempt, self._results, found)
            killers = ", ".join(sorted(self._suspicion.condemned)[:EXAMPLES])
            raise ShardQuarantinedError(
                f"shard {self._unit.shard} is quarantined: {'; '.join(map(str, found))}. "
                + (f"Engines die with {killers}; --accept publishes the shard without. " if killers else "")
                + f"Look at {self._store.uri}/{key}, then "
                f"`caprl release {self._store.uri} {self._unit.shard} --accept` (or `--redo`), or raise "
                "execution.gate.max_share"
            )

    async def _restore(self, samples: list[PlannedSample], spool: Spool) -> int:
        """Bring back the bytes of rows that an earlier attempt or revision finished; returns how many are lost."""
        if self._parts.stage.image_use != "kept":
            return 0
        places = asyncio.Semaphore(self._recipe.execution.runner.read_concurrency)
        lost = 0

        async def restore(sample: PlannedSample, row: Mapping[str, object]) -> None:
            nonlocal lost
            try:
                spool.add(sample.key, await self._images.member_again(sample, row))
            except SampleFailedError as error:
                drop = Drop(error.reason, error.detail, retry=False)
                self._results[sample.key] = withdrawn(self._results[sample.key], drop)
                lost += 1
            finally:
                places.release()

        try:
            async with asyncio.TaskGroup() as group:
                for sample in samples:
                    row = self._results[sample.key].row
                    if row is not None and sample.key not in spool:
                        await places.acquire()
                        group.create_task(restore(sample, row))
        except BaseExceptionGroup as failures:
            raise worst(failures) from failures
        self._rejected += lost
        return lost

    def _pack(self, samples: list[PlannedSample], spool: Spool, folder: Path) -> tuple[PackedObject, ...]:
        ordered = [self._results[sample.key] for sample in samples]
        return pack(ordered, lambda result: spool.read(result.key), self._parts.stage, folder)

    def _record(self, packed: tuple[PackedObject, ...], created: dt.datetime) -> CommitRecord:
        results = self._results.values()
        rows = [result.row for result in results if result.row is not None]
        name = self._parts.dataset.record.name
        fresh = [result for result in results if result is not self._previous.kept.get(result.key)]
        return CommitRecord(
            dataset=name,
            stage=self._parts.stage.name,
            fingerprint=self._parts.dataset.record.fingerprint,
            shard=self._unit.shard,
            revision=self._unit.revision,
            supersedes=self._unit.revision - 1 if self._unit.revision else None,
            attempt=self._attempt.id,
            samples=len(self._results),
            rows=len(rows),
            rejected=len(self._results) - len(rows),
            reasons=dict(sorted(Counter(str(r.ledger["reason"]) for r in results if r.rejected).items())),
            attempts=dict(sorted(Counter(str(row["attempt"]) for row in rows).items())),
            objects=tuple(
                CommittedObject(
                    role=item.role,
                    attempt_key=self._attempt.object_key(item.role),
                    final_key=self._unit.final_key(name, item.role),
                    size=item.size,
                    sha256=item.sha256,
                )
                for item in packed
            ),
            usage=Usage(
                prompt_tokens=sum(result.ledger["prompt_tokens"] for result in fresh),
                completion_tokens=sum(result.ledger["completion_tokens"] for result in fresh),
                engine_s=round(self._engine_s + self._parts.meter.take(self._unit), 3),
                wall_s=round(time.monotonic() - self._started, 3),
                resumed=self._resumed,
            ),
            created=created.isoformat(timespec="seconds"),
        )

    async def _finish(self, record: CommitRecord) -> ShardResult:
        """Publish whoever won, then sweep the unit: from here on no attempt at it can win, and none has words left."""
        self._over = True
        await asyncio.to_thread(publish, self._store, record, self._step)
        await asyncio.to_thread(sweep_unit, self._store, self._unit)
        self._step("swept")
        return ShardResult(
            unit=self._unit, record=record, won=record.attempt == self._attempt.id, resumed=self._resumed
        )

    def _step(self, name: Step) -> None:
        self._observe(ShardEvent(self._unit, name, len(self._results), self._rejected, self._attempt.id))


async def _nothing() -> None:
    """A suspect holds no place ahead of the engine."""
