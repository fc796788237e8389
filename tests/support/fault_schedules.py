"""Random fault schedules against the commit protocol: real shard runners on several hosts, one store in memory.

`play(ground, seed)` draws hosts and their fates from the seed and runs them on a stepped loop, beside a sweeper and a
reader; a healthy host resumes; then late sleepers come back; at last the dataset is verified. `Played.violations` is
empty if every property held at every step. `PYTHONPATH=tests:. python -m support.fault_schedules SEED` shows one.
"""

import asyncio
import random
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from caprl_core.captioning.stage import CaptionStage
from caprl_core.data.decode_pool import DecodePool
from caprl_core.data.roots import ImageReader
from caprl_core.data.sample import PreparedImage
from caprl_core.engines.protocol import EngineInfo
from caprl_core.engines.slots import PrioritySlots
from caprl_core.errors import EngineDeadError, StoreError
from caprl_core.recipe.models import CaptionRecipe
from caprl_core.shards.dataset import Dataset, open_dataset
from caprl_core.shards.events import ShardResult
from caprl_core.shards.lane_parts import LaneParts
from caprl_core.shards.meter import EngineMeter
from caprl_core.shards.plan_file import Plan
from caprl_core.shards.previous import PreviousRevision, nothing_before, take_over
from caprl_core.shards.progress import unfinished_units
from caprl_core.shards.scratch import scratch_folder
from caprl_core.shards.verify import verify
from caprl_core.storage import publish
from caprl_core.storage.commit import list_units, read_commit, read_commits
from caprl_core.storage.layout import ATTEMPTS, Unit
from caprl_core.storage.log import read_log
from support.drawn_dataset import draw_pictures, planned, recipe_for
from support.echo_engine import EchoEngine
from support.fault_hosts import Host, HostStore, Played
from support.stepped_loop import run_stepped
from support.watched_bucket import MemoryBacked, WatchedBucket

SHARDS, SHARD_SAMPLES = 2, 5
CONCURRENCY, WINDOW = 3, 6
TRIES = 4
"""Of a host at a unit, as Prefect's retries do."""


class PreparedBefore:
    """Decoded once for all schedules, by the real decoders: the same bytes always give the same picture."""

    def __init__(self, pictures: Mapping[bytes, PreparedImage]) -> None:
        self._pictures = pictures

    async def prepare(self, data: bytes) -> PreparedImage:
        return self._pictures[data]


@dataclass(frozen=True)
class Ground:
    """What all schedules start from: a planned dataset."""

    recipe: CaptionRecipe
    decoder: Any
    reader: ImageReader
    objects: Mapping[str, bytes]
    plan: Plan


def lay_ground(folder: Path) -> Ground:
    images = draw_pictures(folder / "images", SHARDS * SHARD_SAMPLES)
    recipe = recipe_for(
        images,
        str(folder / "plan"),
        dataset__shard_samples=SHARD_SAMPLES,
        checks__max_attempts=1,
        execution__runner={"flush_s": 3.0, "window": WINDOW, "spool_dir": str(folder / "spool")},
    )
    dataset = planned(recipe)

    async def prepared() -> dict[bytes, PreparedImage]:
        async with DecodePool(recipe.image, workers=1, timeout_s=30, memory_mb=4096, encoding="bmp") as pool:
            return {data: await pool.prepare(data) for data in (path.read_bytes() for path in images.iterdir())}

    paths = [path for path in (folder / "plan").rglob("*") if path.is_file()]
    objects = {str(path.relative_to(folder / "plan")): path.read_bytes() for path in paths}
    return Ground(recipe, PreparedBefore(asyncio.run(prepared())), ImageReader(recipe), objects, dataset.plan)


def play(ground: Ground, seed: int, store: type[HostStore] = HostStore) -> Played:
    """Run one schedule; `store` is how hosts reach the bucket."""
    played = Played(seed)
    run_stepped(_Schedule(ground, played, store).run())
    return played


class _Schedule:
    def __init__(self, ground: Ground, played: Played, store: type[HostStore]) -> None:
        self._ground = ground
        self._played = played
        self._store = store
        self._draw = random.Random(played.seed)
        self._bucket = WatchedBucket(ground.objects, played.violations)
        self._bare = MemoryBacked(self._bucket.objects)
        self._dataset = open_dataset(self._bare, ground.recipe)
        self._results: list[ShardResult] = []

    async def run(self) -> None:
        first = [Unit(shard, 0) for shard in range(SHARDS)]
        await self._phase(0, first)
        rejected = [unit for unit in first if read_commit(self._bare, unit).rejected]
        if rejected and self._draw.random() < 0.5:
            await self._phase(1, [Unit(unit.shard, 1) for unit in rejected])
        self._check_end()

    async def _phase(self, revision: int, units: list[Unit]) -> None:
        """Everybody at once; then one healthy host finishes whatever is left while sleepers may still come back."""
        hosts = [self._host(f"r{revision}-host-{n}") for n in range(self._draw.randint(2, 4))]
        sweeper, reader = self._host(f"r{revision}-sweeper"), self._host(f"r{revision}-reader", healthy=True)
        resumer = self._host(f"r{revision}-resumer", healthy=True)
        begin = [self._draw.choice((0.0, 0.1, 5.0, 60.0)) for _ in hosts]
        await asyncio.gather(
            *(self._work(host, units, after) for host, after in zip(hosts, begin, strict=True)),
            self._sweep(sweeper),
            self._read(reader),
            self._resume(resumer, units, self._draw.choice((10.0, 60.0, 900.0))),
        )
        await self._resume(self._host(f"r{revision}-last", healthy=True), units, 0.0)

    def _host(self, name: str, *, healthy: bool = False) -> Host:
        return Host(name, self._bucket, self._played, healthy=healthy, store=self._store)

    async def _work(self, host: Host, units: list[Unit], after: float) -> None:
        await asyncio.sleep(after)
        order = host.draw.sample(units, len(units))
        parts = self._parts(host)
        if host.draw.random() < 0.5:
            await asyncio.gather(*(self._unit(host, parts, unit) for unit in order))
        else:
            for unit in order:
                await self._unit(host, parts, unit)

    async def _unit(self, host: Host, parts: LaneParts, unit: Unit) -> None:
        for _ in range(TRIES):
            if host.dead:
                return
            try:
                await self._attempt(host, parts, unit)
                return
            except (StoreError, EngineDeadError):
                await asyncio.sleep(host.draw.uniform(1, 20))

    async def _attempt(self, host: Host, parts: LaneParts, unit: Unit) -> ShardResult:
        with scratch_folder(self._ground.recipe.execution.runner.spool_dir) as folder:
            previous = nothing_before()
            if unit.revision:
                previous = await asyncio.to_thread(_taken_over, host, Unit(unit.shard, 0), folder)
            result = await host.begin(parts, unit, previous).run()
        self._results.append(result)
        return result

    def _parts(self, host: Host) -> LaneParts:
        engine = EchoEngine(CONCURRENCY, latency_s=lambda _: host.draw.uniform(0.2, 4.0), answer=host.answer)
        return LaneParts(
            recipe=self._ground.recipe,
            dataset=Dataset(store=host.store, record=self._dataset.record, plan=self._ground.plan),
            stage=CaptionStage(self._ground.recipe),
            engine=engine,
            info=EngineInfo("echo", "1", "test/echo", None),
            slots=PrioritySlots(CONCURRENCY),
            ahead=PrioritySlots(8),
            meter=EngineMeter(),
            reader=self._ground.reader,
            decoder=self._ground.decoder,
        )

    async def _sweep(self, host: Host) -> None:
        def once() -> None:
            records = [read_commit(host.store, unit) for unit in list_units(host.store)]
            publish.sweep(host.store, records)

        for _ in range(self._draw.randint(0, 4)):
            await asyncio.sleep(self._draw.expovariate(1 / 15))
            try:
                await asyncio.to_thread(once)
            except StoreError:
                continue

    async def _read(self, host: Host) -> None:
        """Whatever is committed can be read whole, at any time and while others publish and sweep."""

        def once() -> None:
            for unit in list_units(host.store):
                for item in read_commit(host.store, unit).objects:
                    publish.read_object(host.store, item)

        for _ in range(2):
            await asyncio.sleep(self._draw.expovariate(1 / 20))
            try:
                await asyncio.to_thread(once)
            except StoreError as error:
                self._played.violations.append(f"a reader met {error}")
        report = verify(self._dataset)
        if not report.sound:
            self._played.violations += [f"while it ran: {problem}" for problem in report.problems]

    async def _resume(self, host: Host, units: list[Unit], after: float) -> None:
        await asyncio.sleep(after)
        parts = self._parts(host)
        for unit in sorted({*unfinished_units(self._dataset), *units}):
            logged = set(read_log(self._bare, unit))
            host.asked.clear()
            try:
                result = await self._attempt(host, parts, unit)
            except (StoreError, EngineDeadError) as error:
                self._played.violations.append(f"a healthy host met {error}")
                continue
            # Who loses may have found the log swept, and have asked in vain.
            if result.won and (again := logged & set(host.asked)):
                self._played.violations.append(f"{unit}: {len(again)} samples were asked though they were in the log")

    def _check_end(self) -> None:
        violations = self._played.violations
        units = list_units(self._bare)
        publish.sweep(self._bare, read_commits(self._bare, units, use_cache=False))
        report = verify(self._dataset, deep=True)
        violations += [f"at the end: {problem}" for problem in report.problems]
        if (report.rows + report.rejected, report.pending, report.unpublished) != (SHARDS * SHARD_SAMPLES, 0, 0):
            violations.append(f"at the end: {report}")
        if not {Unit(shard, 0) for shard in range(SHARDS)} <= set(units):
            violations.append(f"at the end: only {units} are committed")
        if left := [item.key for item in self._bare.list(ATTEMPTS)]:
            violations.append(f"at the end: {len(left)} objects of attempts are not swept, first {left[0]}")
        for unit in units:
            told = [result for result in self._results if result.unit == unit]
            if any(result.record != read_commit(self._bare, unit) for result in told):
                violations.append(f"{unit}: an attempt was told of another commit than the one that readers see")
            if sum(result.won for result in told) > 1:
                violations.append(f"{unit}: two attempts believe that they won")


def _taken_over(host: Host, unit: Unit, folder: Path) -> PreviousRevision:
    record = read_commit(host.store, unit)
    return take_over(host.store, record, lambda _: True, folder)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        ground = lay_ground(Path(name))
        shown = play(ground, int(sys.argv[1]))
        print("\n".join([*shown.trace, *shown.violations]))
        ground.reader.close()
