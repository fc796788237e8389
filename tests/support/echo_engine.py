"""A real engine for the runner's purposes: answers from the image's digest, after a delay drawn from the request."""

import asyncio
import hashlib
from collections.abc import Callable
from typing import Literal

from caprl_core.engines.protocol import EngineInfo, Reply, Request


class EchoEngine:
    """`latency_s` maps a request to seconds; `answer` may replace the reply's text or raise."""

    image_encoding: Literal["png", "bmp"] = "bmp"

    def __init__(
        self,
        concurrency: int = 8,
        latency_s: Callable[[Request], float] = lambda _: 0.001,
        answer: Callable[[Request], str] | None = None,
        asked: Callable[[Request], None] = lambda _: None,
    ) -> None:
        self.concurrency = concurrency
        self.inside = 0
        self.most_inside = 0
        self.requests: list[str] = []
        self.closed = False
        self._latency_s = latency_s
        self._answer = answer or caption_of
        self._asked = asked

    async def start(self) -> EngineInfo:
        return EngineInfo("echo", "1", "test/echo", None)

    async def generate(self, request: Request) -> Reply:
        self.requests.append(request.request_id)
        self._asked(request)
        self.inside += 1
        self.most_inside = max(self.most_inside, self.inside)
        try:
            latency = self._latency_s(request)
            await asyncio.sleep(latency)
            text = self._answer(request)
        finally:
            self.inside -= 1
        return Reply(text, "stop", 10, len(text.split()), latency)

    async def close(self) -> None:
        self.closed = True


def caption_of(request: Request) -> str:
    """A caption that depends on the image alone."""
    digest = request.images[0].sha256 if request.images else hashlib.sha256(request.text.encode()).hexdigest()
    return f"A drawn picture whose digest begins with {digest[:16]}, on a plain background."
