"""A lane: one engine kept loaded, through which many shards are worked, neighbours overlapping.

The lane owns a thread with an event loop; `run` may be called from several threads at once. Where slots are scarce the
shard that came first goes first, so a shard's tail is filled up by its successor instead of standing alone.
"""

import asyncio
import contextlib
import itertools
import threading
from collections.abc import Callable, Coroutine
from dataclasses import replace
from types import TracebackType
from typing import Any, Self, TypeVar

from caprl_core.data.decode_pool import DecodePool
from caprl_core.data.roots import ImageReader
from caprl_core.engines.protocol import Engine, EngineInfo
from caprl_core.engines.slots import PrioritySlots
from caprl_core.errors import EngineDeadError, LaneGaveUpError
from caprl_core.recipe.models import StageRecipe
from caprl_core.shards.dataset import Dataset
from caprl_core.shards.events import Observer, ShardResult
from caprl_core.shards.lane_parts import LaneParts
from caprl_core.shards.meter import EngineMeter
from caprl_core.shards.plan_file import Plan
from caprl_core.shards.previous import PreviousRevision
from caprl_core.shards.runner import ShardRunner
from caprl_core.shards.stage import Stage
from caprl_core.storage.layout import Unit
from caprl_core.storage.patience import PatientStore, patient

T = TypeVar("T")

ENGINES_IN_VAIN = 3
"""Engines in a row that end without one sample in the log, starts that fail included, until the lane gives up."""


class Lane:
    """Use as a context manager, or `start` and `close`. Closing leaves no process and no thread behind."""

    def __init__(
        self, recipe: StageRecipe, dataset: Dataset, stage: Stage, open_engine: Callable[[StageRecipe], Engine]
    ) -> None:
        self._recipe = recipe
        self._store = patient(dataset.store)
        plan = dataset.plan if dataset.store.is_local else Plan(self._store, dataset.record.plan_key)
        self._dataset = replace(dataset, store=self._store, plan=plan)
        self._stage = stage
        self._open_engine = open_engine
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="caprl-lane", daemon=True)
        self._order = itertools.count()
        self._starting = threading.Lock()
        self._parts: LaneParts | None = None
        self._reader: ImageReader | None = None
        self._decoder: DecodePool | None = None
        self._closing = threading.Lock()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._dead = False
        # Of the lane and not of an engine: what a dead one has worked was paid too.
        self._meter = EngineMeter()
        self._in_vain = 0
        self._last_death = ""
        self._closed = False

    @property
    def scratch(self) -> str | None:
        """Where local scratch folders are made; None is the system's place."""
        return self._recipe.execution.runner.spool_dir

    def start(self) -> EngineInfo:
        """Load the engine. Raises `EngineDeadError` or `BadInputError`."""
        with self._starting:
            return self._ready().info

    def run(
        self, unit: Unit, observe: Observer = lambda _: None, previous: PreviousRevision | None = None
    ) -> ShardResult:
        """Work one unit to its commit and return; see `ShardRunner.run` for what is raised.

        After an `EngineDeadError` the next call loads a new engine; so does this one, if the engine died of another
        unit's samples alone. After `ENGINES_IN_VAIN` engines that achieved nothing every call raises `LaneGaveUpError`.
        """
        place = next(self._order)
        while True:
            # Handed to the loop under the lock: a loop that `close` has stopped would never run it.
            with self._starting:
                parts = self._ready()
                work = self._work(parts, unit, place, observe, previous)
                future = asyncio.run_coroutine_threadsafe(work, self._loop)
            try:
                return future.result()
            except EngineDeadError as error:
                # A neighbour that saw the same engine die may have replaced it already: its successor is not dead.
                if self._parts is parts:
                    self._dead, self._last_death = True, str(error)
                if not parts.company.died_without(unit):
                    raise
            except BaseException:
                future.cancel()
                raise

    def close(self) -> None:
        """Stop what runs (their logs are flushed), then the engine, the decoders and the thread. Idempotent."""
        with self._closing:
            if self._closed:
                return
            self._closed = True
            if isinstance(self._store, PatientStore):
                self._store.stop_waiting()
            if self._thread.is_alive():
                self._call(self._cancel_work())
            # An engine that was loading held this; it has been told to stop.
            with self._starting:
                self._end()

    def _end(self) -> None:
        if self._thread.is_alive():
            self._call(self._cancel_work())
            try:
                self._stop_engine()
            finally:
                self._stop_inputs()
                self._loop.call_soon_threadsafe(self._loop.stop)
                self._thread.join()
        self._loop.close()

    async def _work(
        self, parts: LaneParts, unit: Unit, priority: int, observe: Observer, previous: PreviousRevision | None
    ) -> ShardResult:
        self._remember()
        return await ShardRunner(parts, unit, priority, observe, previous).run()

    def _ready(self) -> LaneParts:
        """The parts, made where there are none; for holders of `_starting`."""
        if self._closed:
            raise EngineDeadError("the lane is closed")
        if not self._thread.is_alive():
            self._thread.start()
        if self._dead:
            # Only the engine: neighbours that still work with it are to hear that it died, not that images are gone.
            self._in_vain = 0 if self._parts is not None and self._parts.company.fruitful else self._in_vain + 1
            self._stop_engine()
            self._dead = False
        if self._parts is None:
            if self._in_vain >= ENGINES_IN_VAIN:
                raise LaneGaveUpError(
                    f"{self._in_vain} engines in a row ended before a single sample was in the log, so this lane "
                    f"starts no more; the last: {self._last_death}. Look at the engine's own messages and at the GPU; "
                    "what is logged is kept, and the same command again resumes"
                )
            try:
                self._parts = self._call(self._start_parts())
            except EngineDeadError as error:
                self._in_vain, self._last_death = self._in_vain + 1, str(error)
                raise
        return self._parts

    async def _start_parts(self) -> LaneParts:
        self._remember()
        runner = self._recipe.execution.runner
        if self._reader is None:  # first: what is wrong with the recipe is told before an engine has loaded
            self._reader = ImageReader(self._recipe)
        engine = self._open_engine(self._recipe)
        try:
            info = await engine.start()
        except BaseException:
            await engine.close()
            raise
        if self._decoder is None:
            self._decoder = DecodePool(
                self._recipe.image,
                workers=runner.decode_workers,
                timeout_s=runner.decode_timeout_s,
                memory_mb=runner.decode_memory_mb,
                encoding=engine.image_encoding,
            )
        return LaneParts(
            recipe=self._recipe,
            dataset=self._dataset,
            stage=self._stage,
            engine=engine,
            info=info,
            slots=PrioritySlots(engine.concurrency),
            ahead=PrioritySlots(max(8, engine.concurrency)),
            meter=self._meter,
            reader=self._reader,
            decoder=self._decoder,
        )

    def _stop_engine(self) -> None:
        if self._parts is not None:
            parts, self._parts = self._parts, None
            with contextlib.suppress(EngineDeadError):
                self._call(parts.engine.close())

    def _stop_inputs(self) -> None:
        if self._decoder is not None:
            self._decoder.close()
        if self._reader is not None:
            self._reader.close()

    async def _cancel_work(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _remember(self) -> None:
        """Let `close` cancel the current task; one that comes after it ends here."""
        if self._closed:
            raise EngineDeadError("the lane is closed")
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def __enter__(self) -> Self:
        """The lane, not yet started: `run` starts it."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()
