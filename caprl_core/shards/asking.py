"""One sample through the engine: requests, replies, attempts. Knows nothing of logs, shards or stores."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from caprl_core.data.reasons import Reason
from caprl_core.data.row import DETAIL_CHARACTERS, Result
from caprl_core.data.sample import PlannedSample, PreparedImage
from caprl_core.engines.protocol import Answers, EngineInfo, Reply, Request
from caprl_core.engines.slots import PrioritySlots
from caprl_core.errors import CaprlError, SampleFailedError
from caprl_core.recipe.models import StageRecipe
from caprl_core.shards.meter import EngineMeter
from caprl_core.shards.results import Asked, accepted, member_of, rejected
from caprl_core.shards.stage import Drop, More, Outcome, Row, Stage
from caprl_core.storage.layout import Unit


class Asker:
    """Asks one unit's samples. When slots are scarce older units go first, so a shard's tail is never starved; within a
    unit earlier samples do: one with many requests is finished while its image is in the engine's caches and before
    more images come into memory."""

    def __init__(
        self,
        unit: Unit,
        priority: int,
        *,
        stage: Stage,
        engine: Answers,
        info: EngineInfo,
        slots: PrioritySlots,
        meter: EngineMeter,
        recipe: StageRecipe,
    ) -> None:
        self._unit = unit
        self._priority = priority
        self._stage = stage
        self._engine = engine
        self._info = info
        self._slots = slots
        self._meter = meter
        self._recipe = recipe

    async def ask(
        self, sample: PlannedSample, image: PreparedImage | None, first: int, entered: Callable[[], Awaitable[None]]
    ) -> tuple[Result, bytes | None]:
        """Attempts from number `first` on until one succeeds or none is left; the tar member's bytes go with a row.

        `entered` is awaited whenever a request gets its slot. Raises `EngineDeadError`.
        """
        asked = Asked()
        attempt = first
        while True:
            try:
                requests, replies, outcome = await self._attempt(sample, image, attempt, entered)
            except SampleFailedError as error:
                return rejected(
                    sample, Drop(error.reason, error.detail, retry=False), _next(asked, attempt), image
                ), None
            asked = _next(asked, attempt, requests, replies)
            if isinstance(outcome, Row):
                member = None
                if image is not None and self._stage.image_use == "kept":
                    member = await asyncio.to_thread(member_of, image, self._recipe)
                result = accepted(sample, outcome, asked, image, stage=self._stage, member=member, engine=self._info)
                return result, None if member is None else member[0]
            attempt += 1
            if not outcome.retry or attempt == first + self._stage.max_attempts:
                return rejected(sample, outcome, asked, image), None
            asked = _with_reason(asked, str(outcome.reason))

    async def _attempt(
        self,
        sample: PlannedSample,
        image: PreparedImage | None,
        attempt: int,
        entered: Callable[[], Awaitable[None]],
    ) -> tuple[list[Request], list[Reply], Row | Drop]:
        """All that one attempt asked and was answered, and what came of it."""
        requests = list(self._requests(sample, image, attempt))
        leads = self._stage.leads
        replies = await self._replies(sample, requests[:leads], entered)
        replies += await self._replies(sample, requests[leads:], entered)
        while isinstance(outcome := self._judge(sample, replies, attempt), More):
            if not outcome.requests:
                drop = Drop(Reason.UNPARSABLE, "the stage asks for more and names nothing", retry=False)
                return requests, replies, drop
            requests += outcome.requests
            replies += await self._replies(sample, outcome.requests, entered)
        if isinstance(outcome, Row) and self._stage.asks and not requests:
            # Its columns would have to say which model answered.
            outcome = Drop(Reason.UNPARSABLE, "the stage makes a row and has asked nothing", retry=False)
        return requests, replies, outcome

    def _requests(self, sample: PlannedSample, image: PreparedImage | None, attempt: int) -> Sequence[Request]:
        """As with `_judge`: a payload that breaks the stage costs its sample."""
        try:
            return self._stage.requests(sample, image, attempt)
        except Exception as error:
            raise SampleFailedError(Reason.SAMPLE_INVALID, f"{type(error).__name__}: {error}") from error

    async def _replies(
        self, sample: PlannedSample, requests: Sequence[Request], entered: Callable[[], Awaitable[None]]
    ) -> list[Reply]:
        if len(requests) == 0:
            return []
        if len(requests) == 1:
            return [await self._reply(sample, requests[0], entered)]
        tasks = [asyncio.ensure_future(self._reply(sample, request, entered)) for request in requests]
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()

    async def _reply(self, sample: PlannedSample, request: Request, entered: Callable[[], Awaitable[None]]) -> Reply:
        async with self._slots.hold(self._priority, sample.index):
            await entered()
            with self._meter.asking(self._unit):
                try:
                    return await self._answered(request)
                except SampleFailedError as error:
                    if not self._stage.tolerates_failures:
                        raise
                    return _failed(f"{error.reason}: {error.detail}")

    async def _answered(self, request: Request) -> Reply:
        try:
            return _checked(await self._engine.generate(request))
        except CaprlError:
            raise
        except Exception as error:
            # What an engine makes of a hostile reply; were it systematic, the gate would stop the shard.
            raise SampleFailedError(Reason.REQUEST_FAILED, f"{type(error).__name__}: {error}") from error

    def _judge(self, sample: PlannedSample, replies: Sequence[Reply], attempt: int) -> Outcome:
        """A stage is meant to be total; a reply that breaks it all the same costs its sample, never the shard."""
        try:
            return self._stage.outcome(sample, replies, attempt)
        except Exception as error:
            return Drop(Reason.UNPARSABLE, f"{type(error).__name__}: {error}", retry=False)


def _checked(reply: Reply) -> Reply:
    """Replies are made of what a server sent: token counts of no number or of any size would break log and ledger."""
    counts = (reply.prompt_tokens, reply.completion_tokens)
    if not isinstance(reply.text, str) or not all(isinstance(count, int) and 0 <= count < 2**31 for count in counts):
        raise SampleFailedError(Reason.REQUEST_FAILED, "the engine's reply has no text or impossible token counts")
    return reply


def _failed(detail: str) -> Reply:
    return Reply("", "other", prompt_tokens=0, completion_tokens=0, latency_s=0.0, failure=detail[:DETAIL_CHARACTERS])


def _next(asked: Asked, attempt: int, requests: Sequence[Request] = (), replies: Sequence[Reply] = ()) -> Asked:
    return Asked(
        attempt=attempt,
        earlier=asked.earlier,
        requests=requests,
        replies=replies,
        prompt_tokens=asked.prompt_tokens + sum(reply.prompt_tokens for reply in replies),
        completion_tokens=asked.completion_tokens + sum(reply.completion_tokens for reply in replies),
        latency_s=asked.latency_s + sum(reply.latency_s for reply in replies),
    )


def _with_reason(asked: Asked, reason: str) -> Asked:
    return Asked(
        attempt=asked.attempt,
        earlier=(*asked.earlier, reason),
        prompt_tokens=asked.prompt_tokens,
        completion_tokens=asked.completion_tokens,
        latency_s=asked.latency_s,
    )
