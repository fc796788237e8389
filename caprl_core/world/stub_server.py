"""An OpenAI-compatible server without a model: its replies are a function of the request, its faults are to order.

Benchmarks measure the factory against it, tests break it on purpose, and a run can be rehearsed without a GPU.
"""

import argparse
import asyncio
import contextlib
import hashlib
import json
import math
import random
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

WORDS = "a the red blue dark small round tree bird lake roof under above beside near holds stands with and of".split()  # noqa: SIM905
FAULTS = ("429", "500", "503", "400", "401", "404", "hang", "cut", "abort", "null", "empty")
"""HTTP statuses, and: no answer at all; a connection cut in the middle of the answer; a reply the server gave up on
(finish_reason `abort`, or null); a reply without choices."""


@dataclass(frozen=True, slots=True)
class StubBehaviour:
    """How the server behaves.

    median_s, sigma: latency, log-normal: median in seconds and standard deviation of its logarithm (1.0 gives a long
                     tail: 1 % of the requests take over 10 medians). The same request always takes the same time.
    cap_s:           no latency is longer, seconds.
    rates:           fault (see FAULTS) -> share of requests, 0 to 1; a retry of a request draws again.
    script:          faults of the first requests in order of arrival, "ok" for none; rates begin after it.
    poison:          a request whose text contains it always fails with 500.
    loading_s:       seconds after the start during which everything is answered with 503.
    places:          requests worked on at once; others wait their turn. None is no limit.
    """

    median_s: float = 0.0
    sigma: float = 0.0
    cap_s: float = 60.0
    rates: Mapping[str, float] = field(default_factory=dict)
    script: Sequence[str] = ()
    poison: str | None = None
    loading_s: float = 0.0
    places: int | None = None
    retry_after_s: float | None = None
    seed: int = 0
    model: str = "stub"
    api_key: str | None = None


class StubServer:
    """`async with StubServer(behaviour) as server:` listens on `server.url` (which ends in /v1)."""

    def __init__(self, behaviour: StubBehaviour | None = None, host: str = "127.0.0.1", port: int = 0) -> None:
        self.behaviour = behaviour or StubBehaviour()
        self.requests: list[dict[str, Any]] = []
        """Bodies of the chat requests, in order of arrival, image data cut short."""
        self.in_flight = 0
        self.most_in_flight = 0
        self.replies = 0
        self._host, self._port = host, port
        self._seen: Counter[str] = Counter()
        self._connections: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._started = 0.0
        self._places: asyncio.Semaphore | None = None

    @property
    def url(self) -> str:
        """Base URL for an OpenAI client."""
        return f"http://{self._host}:{self._port}/v1"

    async def __aenter__(self) -> Self:
        """Start listening; port 0 takes a free one, which later starts of this object keep."""
        if self.behaviour.places is not None:
            self._places = asyncio.Semaphore(self.behaviour.places)
        self._server = await asyncio.start_server(self._accept, self._host, self._port, limit=2**20, backlog=1024)
        self._port = self._server.sockets[0].getsockname()[1]
        self._started = time.monotonic()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop listening and cut every connection."""
        if self._server is None:
            return
        self._server.close()
        for task in list(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        await self._server.wait_closed()
        self._server = None

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = asyncio.ensure_future(self._serve_all(reader, writer))
        self._connections.add(connection)
        try:
            await connection
        finally:
            self._connections.discard(connection)
            writer.close()

    async def _serve_all(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        start = b""
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while (following := await self._serve_one(start, reader, writer)) is not None:
                start = following

    async def _serve_one(
        self, start: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bytes | None:
        """Answer one request that begins with `start`; returns the next one's beginning, or None to hang up."""
        head = (start + await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, path, _ = head[0].split(" ", 2)
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        early = self._without_model(method, path, headers)
        if early is not None:
            await _send(writer, *early)
            return b""
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        # A client that hangs up cancels what it asked for, as in a real server.
        chat = asyncio.ensure_future(self._chat(body, writer))
        more = asyncio.ensure_future(reader.read(1))
        try:
            await asyncio.wait({chat, more}, return_when=asyncio.FIRST_COMPLETED)
            if not chat.done() or not await chat:
                return None
            return more.result() if more.done() else b""
        finally:
            self.in_flight -= 1
            for task in (chat, more):
                task.cancel()
            await asyncio.gather(chat, more, return_exceptions=True)

    def _without_model(self, method: str, path: str, headers: Mapping[str, str]) -> tuple[int, dict[str, Any]] | None:
        """Status and body of what is answered at once, or None for a chat request."""
        behaviour = self.behaviour
        if time.monotonic() - self._started < behaviour.loading_s:
            return 503, _error("Loading model")
        if behaviour.api_key is not None and headers.get("authorization") != f"Bearer {behaviour.api_key}":
            return 401, _error("wrong API key")
        if (method, path) == ("POST", "/v1/chat/completions"):
            return None
        model = {"id": behaviour.model, "object": "model", "created": 0, "owned_by": "stub"}
        pages: dict[str, dict[str, Any]] = {
            "/v1/models": {"object": "list", "data": [model]},
            "/version": {"version": "1"},
            "/health": {},
        }
        return (200, pages[path]) if path in pages else (404, _error(f"no such path: {path}"))

    async def _chat(self, body: bytes, writer: asyncio.StreamWriter) -> bool:
        request = json.loads(body)
        digest = hashlib.sha256(body).hexdigest()
        fault = self._fault(digest, len(self.requests))
        self._seen[digest] += 1
        text = _last_text(request)
        self.requests.append(_shortened(request))
        if request.get("model") != self.behaviour.model:
            return await _send(writer, 404, _error(f"The model `{request.get('model')}` does not exist."))
        if self.behaviour.poison is not None and self.behaviour.poison in text:
            return await _send(writer, 500, _error("poison"))
        if fault.isdigit():
            wait = self.behaviour.retry_after_s
            return await _send(
                writer, int(fault), _error("to order"), {} if wait is None else {"retry-after": f"{wait:g}"}
            )
        if fault == "hang":
            await asyncio.sleep(3600)
        async with self._places or contextlib.nullcontext():
            await asyncio.sleep(self._latency(digest))
        reply = self._reply(request, digest)
        if fault in ("abort", "null"):
            reply["choices"][0]["finish_reason"] = "abort" if fault == "abort" else None
        if fault == "empty":
            reply["choices"] = []
        if fault == "cut":
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 5000\r\n\r\n{")
            await writer.drain()
            return False
        self.replies += 1
        return await _send(writer, 200, reply)

    def _fault(self, digest: str, arrival: int) -> str:
        if arrival < len(self.behaviour.script):
            return self.behaviour.script[arrival]
        draw = random.Random(f"fault/{self.behaviour.seed}/{digest}/{self._seen[digest]}").random()
        for fault, share in self.behaviour.rates.items():
            if draw < share:
                return fault
            draw -= share
        return "ok"

    def _latency(self, digest: str) -> float:
        if self.behaviour.median_s == 0:
            return 0.0
        draw = random.Random(f"latency/{self.behaviour.seed}/{digest}").lognormvariate(0.0, self.behaviour.sigma)
        return min(self.behaviour.cap_s, self.behaviour.median_s * draw)

    def _reply(self, request: dict[str, Any], digest: str) -> dict[str, Any]:
        generator = random.Random(f"text/{self.behaviour.seed}/{digest}")
        wanted, limit = generator.randint(8, 60), int(request.get("max_tokens") or 16)
        text = " ".join(generator.choice(WORDS) for _ in range(min(wanted, limit)))
        choice: dict[str, Any] = {
            "index": 0,
            "message": {"role": "assistant", "content": text},
            "finish_reason": "length" if wanted > limit else "stop",
        }
        if request.get("logprobs"):
            choice["logprobs"] = _logprobs(text.split(), digest, int(request.get("top_logprobs") or 0))
        tokens = min(wanted, limit)
        return {
            "id": f"chatcmpl-{digest[:16]}",
            "object": "chat.completion",
            "created": 0,
            "model": self.behaviour.model,
            "choices": [choice],
            "usage": {"prompt_tokens": 10, "completion_tokens": tokens, "total_tokens": 10 + tokens},
        }


def _logprobs(words: Sequence[str], digest: str, top: int) -> dict[str, Any]:
    """As OpenAI reports them, for the first word alone: it and the letters A to I share the probability."""
    generator = random.Random(f"logprobs/{digest}")
    weights = {token: generator.expovariate(1.0) for token in (*"ABCDEFGHI", *words[:1])}
    entries = [
        {"token": token, "logprob": math.log(weight / sum(weights.values())), "bytes": list(token.encode())}
        for token, weight in sorted(weights.items(), key=lambda item: -item[1])
    ]
    drawn = [entry for entry in entries if entry["token"] in words[:1]]
    return {"content": [{**entry, "top_logprobs": entries[:top]} for entry in drawn], "refusal": None}


def _error(message: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": "stub", "code": None}}


async def _send(
    writer: asyncio.StreamWriter, status: int, value: dict[str, Any], headers: Mapping[str, str] | None = None
) -> bool:
    body = json.dumps(value).encode()
    lines = [f"HTTP/1.1 {status} Stub", "content-type: application/json", f"content-length: {len(body)}"]
    lines += [f"{name}: {text}" for name, text in (headers or {}).items()]
    writer.write("\r\n".join([*lines, "", ""]).encode() + body)
    await writer.drain()
    return True


def _last_text(request: dict[str, Any]) -> str:
    content = request["messages"][-1]["content"]
    if isinstance(content, str):
        return content
    return " ".join(part.get("text", "") for part in content)


def _shortened(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _shortened(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_shortened(item) for item in value]
    return value[:200] if isinstance(value, str) else value


async def _serve(behaviour: StubBehaviour, host: str, port: int) -> None:
    async with StubServer(behaviour, host, port) as server:
        print(server.url, flush=True)
        await asyncio.Event().wait()


def main() -> None:
    """`python -m caprl_core.world.stub_server --port 8000`; prints its URL and serves until a signal comes."""
    parser = argparse.ArgumentParser(prog="python -m caprl_core.world.stub_server", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--model", default="stub", help="name of the model it serves")
    parser.add_argument("--median", type=float, default=0.0, help="median latency, seconds")
    parser.add_argument(
        "--sigma", type=float, default=0.0, help="deviation of the latency's logarithm; 1 is a long tail"
    )
    parser.add_argument("--cap", type=float, default=60.0, help="longest latency, seconds")
    parser.add_argument("--loading", type=float, default=0.0, help="seconds of 503 after the start")
    parser.add_argument("--places", type=int, default=None, help="requests worked on at once")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--rate", action="append", default=[], metavar="FAULT=SHARE", help=f"faults: {', '.join(FAULTS)}; repeatable"
    )
    arguments = parser.parse_args()
    rates = {}
    for item in arguments.rate:
        fault, _, share = item.partition("=")
        if fault not in FAULTS:
            parser.error(f"--rate {item}: no such fault, choose from {', '.join(FAULTS)}")
        rates[fault] = float(share)
    behaviour = StubBehaviour(
        median_s=arguments.median,
        sigma=arguments.sigma,
        cap_s=arguments.cap,
        rates=rates,
        loading_s=arguments.loading,
        places=arguments.places,
        seed=arguments.seed,
        model=arguments.model,
    )
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(behaviour, arguments.host, arguments.port))
    sys.exit(0)


if __name__ == "__main__":
    main()
