"""An engine behind HTTP: servers with an OpenAI-compatible chat interface (vLLM, SGLang, llama.cpp)."""

import asyncio
import base64
import contextlib
import logging
import os
import random
import time
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Literal, NoReturn

import httpx
import openai
import orjson
from openai import AsyncOpenAI
from openai.types.chat import ChatCompletion

from caprl_core.data.reasons import Reason
from caprl_core.engines.choice_logprobs import TOP_LOGPROBS, reported
from caprl_core.engines.endpoints import Endpoint, Endpoints
from caprl_core.engines.openai_failures import AttemptFailedError, Blame, attempt_failure, shown_url
from caprl_core.engines.protocol import EngineInfo, FinishReason, Reply, Request, Sampling
from caprl_core.errors import BadInputError, EngineDeadError, SampleFailedError
from caprl_core.recipe.models import EngineExecution, ModelRecipe

log = logging.getLogger(__name__)

CONNECT_S = 10.0  # a server that takes longer to accept a connection is as good as unreachable
FIRST_PAUSE_S = 0.5  # pause after the first failure, doubled after each further one
LONGEST_PAUSE_S = 30.0
FAILURES_TO_REST = 3  # in a row; one of several servers then rests, ever longer until it answers again
IMAGES_REMEMBERED = 16  # encoded for sending, up to some MB each: those whose requests are under way at once
READY_S = 300.0  # how long `start` waits: a large model takes minutes to load, and its server answers nothing till then


class OpenAIEngine:
    """Requests go to the least busy URL, and after a failure that is not theirs to another one, with growing pauses.

    A request that has used up its retries is given up (`SampleFailedError`) only if somebody else was answered
    meanwhile, or a one-token request is answered now. Otherwise the server is to blame: after `dead_after_s` seconds of
    that the engine is dead. Attempts that found no server at all do not count as the request's own.
    """

    def __init__(self, model: ModelRecipe, execution: EngineExecution, *, ready_s: float = READY_S) -> None:
        self._model = model
        self._execution = execution
        self._ready_s = ready_s
        self._served_name = execution.served_name or model.name
        self._key = os.environ.get(execution.api_key_env, "")
        self._endpoints = Endpoints([Endpoint(url.rstrip("/"), self._client(url)) for url in execution.urls])
        self._last_answer = float("-inf")
        self._probing = asyncio.Lock()
        self._dead: str | None = None
        self._died = asyncio.Event()
        # A question set asks about one image 20 times: 4.5 ms each for a picture of 896 px. The bytes are found again
        # by their own cached hash and by identity.
        self._data_url = lru_cache(maxsize=IMAGES_REMEMBERED)(_data_url)

    def _client(self, url: str) -> AsyncOpenAI:
        timeout_s = self._execution.timeout_s
        return AsyncOpenAI(
            base_url=url,
            api_key=self._key or "none",  # the client insists on one; servers without keys ignore it
            max_retries=0,
            timeout=openai.Timeout(timeout_s, connect=min(CONNECT_S, timeout_s)),
        )

    @property
    def concurrency(self) -> int:
        """Requests wanted in flight, over all URLs."""
        return self._execution.concurrency

    @property
    def image_encoding(self) -> Literal["png", "bmp"]:
        """Small enough to send."""
        return "png"

    async def start(self) -> EngineInfo:
        """Wait for a server. Raises `BadInputError` for wrong settings, `EngineDeadError` if none gets ready."""
        endpoint, owner, names = await self._first_ready()
        if self._served_name not in names:
            # Some servers (llama.cpp) list one name and accept any: ask.
            try:
                await self._ask(endpoint, self._trifle())
            except AttemptFailedError as failure:
                if failure.blame in (Blame.SETTINGS, Blame.REQUEST):
                    served = ", ".join(sorted(names))
                    address = shown_url(endpoint.url)
                    raise BadInputError(
                        f"execution.engine.served_name: {address} serves {served}, not {self._served_name!r}"
                    ) from failure
        return EngineInfo(
            engine="openai",
            engine_version=f"{owner} {await self._version(endpoint)}",
            model=self._model.name,
            model_revision=self._model.revision,
        )

    async def _first_ready(self) -> tuple[Endpoint, str, set[str]]:
        deadline = time.monotonic() + self._ready_s
        told = 0.0
        while True:
            looks = await asyncio.gather(*(self._look(endpoint) for endpoint in self._endpoints.all))
            ready = [look for look in looks if not isinstance(look, AttemptFailedError)]
            failures = [look for look in looks if isinstance(look, AttemptFailedError)]
            for failure in failures:
                if failure.blame is Blame.SETTINGS:
                    raise BadInputError(f"{failure.text} (execution.engine.api_key_env: {self._execution.api_key_env})")
            if ready:
                return ready[0]
            text = "; ".join(failure.text for failure in failures)
            if time.monotonic() > deadline:
                raise EngineDeadError(f"no server was ready within {self._ready_s:g} s: {text}")
            if time.monotonic() - told > 10:
                log.warning("waiting for the server: %s", text)
                told = time.monotonic()
            await asyncio.sleep(min(1.0, self._ready_s / 10))

    async def _look(self, endpoint: Endpoint) -> tuple[Endpoint, str, set[str]] | AttemptFailedError:
        try:
            async with asyncio.timeout(CONNECT_S):
                page = await endpoint.client.models.list()
        except (openai.OpenAIError, TimeoutError) as error:
            failure = attempt_failure(error, endpoint.url)
            endpoint.rest(FIRST_PAUSE_S)
            return failure
        owners = [model.owned_by for model in page.data or ()]
        return endpoint, (owners or ["unknown"])[0] or "unknown", {model.id for model in page.data or ()}

    async def _version(self, endpoint: Endpoint) -> str:
        """vLLM and SGLang tell their version under /version, llama.cpp its build under /props."""
        root = endpoint.url.removesuffix("/v1")
        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        async with httpx.AsyncClient(timeout=CONNECT_S, headers=headers) as client:
            for path, name in (("/version", "version"), ("/props", "build_info")):
                with contextlib.suppress(httpx.HTTPError, ValueError, AttributeError):
                    value = (await client.get(root + path)).json().get(name)
                    if isinstance(value, str):
                        return value
        return "unknown"

    async def generate(self, request: Request) -> Reply:
        """Answer one request, retrying as the class says."""
        payload = await asyncio.to_thread(self._payload, request)
        loop = asyncio.get_running_loop()
        attempts, pauses = 0, 0
        failing_since: float | None = None
        endpoint: Endpoint | None = None
        while True:
            endpoint = self._endpoints.choose(endpoint)
            await self._pause(endpoint.rests_until - loop.time())
            try:
                with endpoint.busy():
                    reply = await self._ask(endpoint, payload, request.choices)
            except AttemptFailedError as error:
                failure = error
            else:
                self._last_answer = loop.time()
                endpoint.failures = 0
                return reply
            if failure.blame is Blame.REQUEST:
                self._last_answer = loop.time()
                raise SampleFailedError(Reason.REQUEST_REFUSED, failure.text)
            if failure.blame is Blame.SETTINGS:
                self._die(failure.text)
            if failing_since is None:
                failing_since = loop.time()
            attempts += failure.blame is not Blame.UNREACHABLE
            if attempts > self._execution.retries and await self._someone_is_answered(failing_since):
                raise SampleFailedError(Reason.REQUEST_FAILED, f"{attempts} attempts, the last: {failure.text}")
            silence = loop.time() - max(failing_since, self._last_answer)
            if silence > self._execution.dead_after_s:
                self._die(f"no request has been answered for {silence:.0f} s, the last: {failure.text}")
            pause = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2**pauses) * random.uniform(0.5, 1.0)
            pauses += 1
            self._spare(endpoint, failure, pause)
            # With several servers the next attempt goes to another one, which has done nothing to deserve a long pause.
            await self._pause(pause if len(self._endpoints.all) == 1 else min(pause, FIRST_PAUSE_S))

    def _spare(self, endpoint: Endpoint, failure: AttemptFailedError, pause: float) -> None:
        """Let a server rest that asked for it, that is not there, or that fails again and again.

        One that fails fast has the fewest requests in flight and would otherwise attract all of them.
        """
        endpoint.failures += 1
        if failure.retry_after_s is not None:
            endpoint.rest(failure.retry_after_s)
        elif failure.blame is Blame.UNREACHABLE:
            endpoint.rest(pause)
        elif endpoint.failures >= FAILURES_TO_REST and len(self._endpoints.all) > 1:
            doublings = min(endpoint.failures - FAILURES_TO_REST, 10)
            endpoint.rest(min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2**doublings))

    async def _pause(self, seconds: float) -> None:
        """Wait, unless the engine dies meanwhile."""
        if seconds > 0 and self._dead is None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._died.wait(), seconds)
        if self._dead is not None:
            raise EngineDeadError(self._dead)

    def _die(self, text: str) -> NoReturn:
        self._dead = self._dead or text
        self._died.set()
        raise EngineDeadError(self._dead)

    async def _someone_is_answered(self, since: float) -> bool:
        """Whether the engine lives: somebody was answered after `since` (loop time), or a trifle is answered now."""
        async with self._probing:
            for endpoint in self._endpoints.all:
                if self._last_answer > since:
                    return True
                try:
                    async with asyncio.timeout(self._execution.dead_after_s):
                        await self._ask(endpoint, self._trifle())
                except (AttemptFailedError, TimeoutError):
                    continue
                self._last_answer = asyncio.get_running_loop().time()
            return self._last_answer > since

    def _trifle(self) -> bytes:
        return self._payload(Request("probe", "Hello", Sampling(temperature=0, max_tokens=1)))

    async def _ask(self, endpoint: Endpoint, payload: bytes, choices: Sequence[str] = ()) -> Reply:
        started = time.monotonic()
        try:
            async with asyncio.timeout(self._execution.timeout_s):
                completion = await endpoint.client.post("/chat/completions", cast_to=ChatCompletion, content=payload)
        except (openai.OpenAIError, TimeoutError, ValueError) as error:
            raise attempt_failure(error, endpoint.url) from error
        choice = completion.choices[0] if completion.choices else None
        # vLLM says "abort" or "error", others null, for a reply they gave up on, for example while shutting down.
        if choice is None or choice.finish_reason not in KNOWN_FINISH:
            ended = None if choice is None else choice.finish_reason
            raise AttemptFailedError(
                Blame.UNKNOWN, f"{shown_url(endpoint.url)}: the reply was given up on (finish_reason {ended!r})"
            )
        usage = completion.usage
        token_ids = (choice.model_extra or {}).get("token_ids")
        return Reply(
            text=choice.message.content or "",
            finish_reason=KNOWN_FINISH[choice.finish_reason],
            prompt_tokens=usage.prompt_tokens if usage else 0,
            completion_tokens=usage.completion_tokens if usage else 0,
            latency_s=time.monotonic() - started,
            token_ids=None if token_ids is None else tuple(token_ids),
            choice_logprobs=reported(choice.logprobs, choices) if choices else None,
        )

    def _payload(self, request: Request) -> bytes:
        """The body of a request, made once for all its attempts.

        Made here, off the event loop: the client's own JSON encoder takes 4 ms for a megapixel, orjson 0.1 ms.
        """
        content: list[dict[str, Any]] = [
            {
                "type": "image_url",
                "image_url": {"url": self._data_url(image.encoded)},
            }
            for image in request.images
        ]
        content.append({"type": "text", "text": request.text})
        messages: list[dict[str, Any]] = [{"role": "user", "content": content if request.images else request.text}]
        if request.system is not None:
            messages.insert(0, {"role": "system", "content": request.system})
        sampling = request.sampling
        # Sent even where they change nothing: left out, vLLM takes them from the model's generation_config.json
        # (repetition_penalty 1.05 for Qwen2.5-VL), and llama.cpp takes top_k 40 and min_p 0.05.
        fields: dict[str, Any] = {
            "model": self._served_name,
            "messages": messages,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "max_tokens": sampling.max_tokens,
            "stop": list(sampling.stop) or None,
            "top_k": sampling.top_k,
            "repetition_penalty": sampling.repetition_penalty,
            "min_p": 0.0,
            "seed": sampling.seed,
            "logprobs": True if request.choices else None,
            "top_logprobs": TOP_LOGPROBS if request.choices else None,
        } | self._execution.extra
        return orjson.dumps({name: value for name, value in fields.items() if value is not None})

    async def close(self) -> None:
        """Close the connections; the servers are not ours."""
        self._dead = self._dead or "the engine has been closed"
        self._died.set()
        for endpoint in self._endpoints.all:
            await endpoint.client.close()


def _data_url(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


KNOWN_FINISH: dict[str | None, FinishReason] = {
    "stop": "stop",
    "length": "length",
    "content_filter": "other",
    "tool_calls": "other",
    "repetition": "other",
}
"""What servers say about a reply that is complete."""
