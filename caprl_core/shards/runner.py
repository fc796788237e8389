"""The shard runner: read, decode, ask, log, gate, pack, commit. The one mechanism behind every model-driven stage.

One asyncio task a sample, no batch and no barrier. Two bounds: a lane holds a limited number of images ahead of the
engine, and at most `window` samples of a shard are between their first request and the log, so that a killed shard
loses no more than that.
"""

import asyncio
import datetime as dt
import hashlib
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from caprl_core.data.decode_pool import DecodePool
from caprl_core.data.reasons import Reason
from caprl_core.data.roots import ImageReader
from caprl_core.data.row import Result
from caprl_core.data.sample import PlannedSample, PreparedImage
from caprl_core.engines.protocol import Engine, EngineInfo
from caprl_core.engines.slots import PrioritySlots
from caprl_core.errors import EngineDeadError, SampleFailedError, ShardQuarantinedError
from caprl_core.recipe.models import StageRecipe
from caprl_core.shards.asking import Asker
from caprl_core.shards.dataset import Dataset
from caprl_core.shards.events import Observer, ShardEvent, ShardResult, Step
from caprl_core.shards.gate import breaches, quarantine, read_ruling
from caprl_core.shards.meter import EngineMeter
from caprl_core.shards.pack import PackedObject, pack
from caprl_core.shards.previous import PreviousRevision, nothing_before
from caprl_core.shards.results import Asked, member_of, rejected, withdrawn
from caprl_core.shards.scratch import scratch_folder
from caprl_core.shards.spool import Spool
from caprl_core.shards.stage import Drop, Stage
from caprl_core.storage.commit import CommitRecord, CommittedObject, Usage, commit, read_commit
from caprl_core.storage.layout import Attempt, Unit
from caprl_core.storage.log import SampleLog, read_log
from caprl_core.storage.publish import publish, sweep_unit


@dataclass(frozen=True, slots=True)
class LaneParts:
    """What the shards of one lane share."""

    recipe: StageRecipe
    dataset: Dataset
    stage: Stage
    engine: Engine
    info: EngineInfo
    slots: PrioritySlots
    ahead: PrioritySlots
    """Samples of all shards that are read, decoded or waiting for a slot: what the lane keeps in memory of images."""
    meter: EngineMeter
    reader: ImageReader
    decoder: DecodePool


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
        self._asker = Asker(
            unit,
            priority,
            stage=parts.stage,
            engine=parts.engine,
            info=parts.info,
            slots=parts.slots,
            meter=parts.meter,
            recipe=parts.recipe,
        )
        runner = parts.recipe.execution.runner
        concurrency = parts.engine.concurrency
        self._window = asyncio.Semaphore(runner.window or 3 * concurrency)
        self._prefetch = asyncio.Semaphore(max(8, concurrency))
        self._log = SampleLog(
            self._store,
            self._attempt,
            flush_s=runner.flush_s,
            # Half a window at most may wait for a flush, or samples in the engine would wait for the log.
            flush_samples=max(1, min(64, (runner.window or 3 * concurrency) // 2)),
            flushed=lambda: self._step("log flushed"),
        )
        self._results: dict[str, Result] = {}
        self._started = time.monotonic()
        self._resumed = 0
        self._unlogged = 0
        self._rejected = 0

    async def run(self) -> ShardResult:
        """Finish the unit, or find it finished. Raises `EngineDeadError`, `ShardQuarantinedError`, `StoreError`,
        `OSError` (local scratch space) or `BadInputError` (a whole root is unreachable); the log keeps what was done.
        """
        if await asyncio.to_thread(self._store.size, self._unit.commit_key) is not None:
            return await self._finish(await asyncio.to_thread(read_commit, self._store, self._unit))
        samples = await asyncio.to_thread(self._parts.dataset.plan.shard, self._unit.shard)
        ruling = await asyncio.to_thread(read_ruling, self._store, self._unit)
        self._results = dict(self._previous.kept)
        logged = await asyncio.to_thread(read_log, self._store, self._unit, ruling.ignored)
        resumed = {sample.key: logged[sample.key] for sample in samples if sample.key in logged}
        self._results |= resumed
        self._resumed = len(resumed)
        self._rejected = sum(result.rejected for result in self._results.values())
        self._step("log read")
        with (
            scratch_folder(self._recipe.execution.runner.spool_dir) as folder,
            Spool(folder / "spool") as spool,
        ):
            await self._ask_all([sample for sample in samples if sample.key not in self._results], spool)
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
        record = await asyncio.to_thread(commit, self._store, self._record(packed))
        self._step("committed")
        return await self._finish(record)

    async def _ask_all(self, samples: list[PlannedSample], spool: Spool) -> None:
        self._unlogged = len(samples)
        try:
            async with asyncio.TaskGroup() as group:
                for sample in samples:
                    await self._prefetch.acquire()
                    group.create_task(self._one(sample, spool))
        except BaseExceptionGroup as failures:
            raise _worst(failures) from failures
        finally:
            await asyncio.shield(self._log.close())

    async def _one(self, sample: PlannedSample, spool: Spool) -> None:
        """Read, decode, ask, keep the bytes, log."""
        async with AsyncExitStack() as ahead:
            ahead.callback(self._prefetch.release)
            try:
                await ahead.enter_async_context(self._parts.ahead.hold(self._priority))
                image = await self._image(sample)
            except SampleFailedError as error:
                # Waiting for the log takes up to `flush_s`; a run of missing images must not go at that pace.
                await ahead.aclose()
                drop = Drop(error.reason, error.detail, retry=False)
                before = Asked(attempt=self._previous.attempts(sample.key))
                await self._done(rejected(sample, drop, before, None))
                return
            async with self._window:
                first = self._previous.attempts(sample.key) + 1
                result, member = await self._asker.ask(sample, image, first, entered=ahead.aclose)
                del image
                # A sample that was not asked about has not entered: its place must not wait for the log either.
                await ahead.aclose()
                if member is not None:
                    spool.add(sample.key, member)
                del member
                await self._done(result)

    async def _image(self, sample: PlannedSample) -> PreparedImage | None:
        if self._parts.stage.image_use != "unread":
            return await self._parts.decoder.prepare(await self._parts.reader.read(sample))
        if sample.problem is not None:
            raise SampleFailedError(Reason.SAMPLE_INVALID, sample.problem)
        return None

    async def _done(self, result: Result) -> None:
        """Log a result; it counts once the store has it."""
        self._unlogged -= 1
        if not self._unlogged:
            # The last sample of a shard would wait up to flush_s for company that cannot come.
            self._log.hurry()
        await self._log.append(result)
        self._results[result.key] = result
        self._rejected += result.rejected
        self._step("sample")

    async def _judge(self) -> None:
        found = breaches(self._results, self._recipe.execution.gate)
        if found:
            key = await asyncio.to_thread(quarantine, self._store, self._attempt, self._results, found)
            raise ShardQuarantinedError(
                f"shard {self._unit.shard} is quarantined: {'; '.join(map(str, found))}. "
                f"Look at {self._store.uri}/{key}, then "
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
                spool.add(sample.key, await self._member_again(sample, row))
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
            raise _worst(failures) from failures
        self._rejected += lost
        return lost

    async def _member_again(self, sample: PlannedSample, row: Mapping[str, object]) -> bytes:
        data = await asyncio.to_thread(self._previous.member, row)
        if data is None:
            data = await self._parts.reader.read(sample)
            if await asyncio.to_thread(_sha256, data) != row["image_sha256"]:
                raise SampleFailedError(Reason.IMAGE_CHANGED, "the image is not the one that was captioned")
            if self._recipe.image.reencode != "none":
                data = (await asyncio.to_thread(member_of, await self._parts.decoder.prepare(data), self._recipe))[0]
        if await asyncio.to_thread(_sha256, data) != row["member_sha256"]:
            raise SampleFailedError(Reason.IMAGE_CHANGED, "the tar member cannot be made again with the same bytes")
        return data

    def _pack(self, samples: list[PlannedSample], spool: Spool, folder: Path) -> tuple[PackedObject, ...]:
        ordered = [self._results[sample.key] for sample in samples]
        return pack(ordered, lambda result: spool.read(result.key), self._parts.stage, folder)

    def _record(self, packed: tuple[PackedObject, ...]) -> CommitRecord:
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
                engine_s=round(self._parts.meter.take(self._unit), 3),
                wall_s=round(time.monotonic() - self._started, 3),
                resumed=self._resumed,
            ),
            created=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        )

    async def _finish(self, record: CommitRecord) -> ShardResult:
        """Publish whoever won, then sweep the unit: from here on no attempt at it can win."""
        await asyncio.to_thread(publish, self._store, record, self._step)
        await asyncio.to_thread(sweep_unit, self._store, self._unit)
        self._step("swept")
        return ShardResult(
            unit=self._unit, record=record, won=record.attempt == self._attempt.id, resumed=self._resumed
        )

    def _step(self, name: Step) -> None:
        self._observe(ShardEvent(self._unit, name, len(self._results), self._rejected))


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _worst(failures: BaseExceptionGroup[BaseException]) -> BaseException:
    """The failure to report: a dead engine explains all others; a cancellation none."""
    flat = list(_flatten(failures))
    dead = [error for error in flat if isinstance(error, EngineDeadError)]
    return (dead or flat)[0]


def _flatten(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    flat: list[BaseException] = []
    for error in group.exceptions:
        flat += _flatten(error) if isinstance(error, BaseExceptionGroup) else [error]
    return flat
