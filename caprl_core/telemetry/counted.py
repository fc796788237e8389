"""An engine and a stage that tell a lane's figures what passes through them, and change nothing."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from caprl_core.data.sample import PlannedSample, PreparedImage
from caprl_core.engines.protocol import Engine, EngineInfo, Reply, Request
from caprl_core.errors import EngineDeadError
from caprl_core.shards.stage import Outcome, Row, Stage
from caprl_core.telemetry.figures import LaneFigures
from caprl_core.telemetry.shard_context import SHARD


class CountedEngine:
    """The engine itself, its requests counted."""

    def __init__(self, engine: Engine, figures: LaneFigures) -> None:
        self._engine = engine
        self._figures = figures
        self._dead = False

    @property
    def concurrency(self) -> int:
        """The engine's."""
        return self._engine.concurrency

    @property
    def image_encoding(self) -> Literal["png", "bmp"]:
        """The engine's."""
        return self._engine.image_encoding

    async def start(self) -> EngineInfo:
        """Start the engine. Raises what it raises."""
        began = time.monotonic()
        try:
            info = await self._engine.start()
        except EngineDeadError:
            self._died()
            raise
        self._figures.engine_started(self._engine.concurrency, time.monotonic() - began)
        return info

    async def generate(self, request: Request) -> Reply:
        """Ask the engine. Raises what it raises."""
        began = self._figures.asked(request.request_id)
        try:
            reply = await self._engine.generate(request)
        except BaseException as error:
            self._figures.unanswered(began, cancelled=isinstance(error, asyncio.CancelledError))
            if isinstance(error, EngineDeadError):
                self._died()
            raise
        self._figures.answered(began, reply.prompt_tokens, reply.completion_tokens)
        return reply

    async def close(self) -> None:
        """Close the engine."""
        self._figures.engine_stopped()
        await self._engine.close()

    def _died(self) -> None:
        """Told by every request that was in it; it dies once."""
        if not self._dead:
            self._dead = True
            self._figures.engine_died()


class CountedStage:
    """The stage itself; it tells when a sample is ready for the engine and when its row is made."""

    def __init__(self, stage: Stage, figures: LaneFigures) -> None:
        self._stage = stage
        self._figures = figures
        self.name = stage.name
        self.fields = stage.fields
        self.max_attempts = stage.max_attempts
        self.prompt_id = stage.prompt_id
        self.image_use = stage.image_use
        self.asks = stage.asks
        self.leads = stage.leads
        self.tolerates_failures = stage.tolerates_failures

    def requests(self, sample: PlannedSample, image: PreparedImage | None, attempt: int) -> Sequence[Request]:
        """The stage's requests."""
        requests = self._stage.requests(sample, image, attempt)
        if requests:
            shard = SHARD.get()
            self._figures.ready(requests[0].request_id, None if shard is None else shard.unit)
        return requests

    def outcome(self, sample: PlannedSample, replies: Sequence[Reply], attempt: int) -> Outcome:
        """The stage's verdict."""
        outcome = self._stage.outcome(sample, replies, attempt)
        shard = SHARD.get()
        if shard is not None and isinstance(outcome, Row):
            self._figures.accepted(shard.unit)
        return outcome

    def text(self, fields: Mapping[str, Any]) -> str:
        """The stage's text."""
        return self._stage.text(fields)
