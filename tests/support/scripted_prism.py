"""A captioner and a judge to order behind one server, and recipes that ask them."""

import hashlib
import json
import random
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

import yaml

from caprl_core.recipe.prism import PrismRecipe
from caprl_core.world.benchmark import WrittenBenchmark
from support.scripted_http import ChatServer

CAPTIONER, JUDGE = "scripted-captioner", "scripted-judge"
CAPTIONS = 3


class Asked(NamedTuple):
    """A request: by whom it was answered, and the digest of the picture it is about."""

    role: str
    picture: str
    digest: str


class ScriptedPrism:
    """Captions name their picture by digest; the judge answers A. `broken` texts in a prompt are refused with 500."""

    def __init__(self, pause_s: float = 0.0) -> None:
        self.asked: list[Asked] = []
        self.prompts: list[dict[str, Any]] = []
        self.broken: set[str] = set()
        self.broken_once: set[str] = set()
        self._pause_s = pause_s
        self._lock = Lock()
        self._server = ChatServer((CAPTIONER, JUDGE), self.chat)

    @property
    def url(self) -> str:
        return self._server.url

    def close(self) -> None:
        self._server.close()

    def chat(self, body: bytes) -> tuple[int, dict[str, Any]]:
        request = json.loads(body)
        content = request["messages"][-1]["content"]
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
        text = "".join(part["text"] for part in parts if part["type"] == "text")
        picture = next((part["image_url"]["url"] for part in parts if part["type"] == "image_url"), None)
        time.sleep(self._pause_s)
        with self._lock:
            self.prompts.append(request)
            for fault in self.broken | self.broken_once:
                if fault in text:
                    self.broken_once.discard(fault)
                    return 400, {"error": {"message": f"refused: {fault}", "type": "scripted", "code": None}}
            reply = self._reply(request, text, picture, hashlib.sha256(body).hexdigest())
        choice = {"index": 0, "message": {"role": "assistant", "content": reply}, "finish_reason": "stop"}
        usage = {"prompt_tokens": 9, "completion_tokens": len(reply.split()), "total_tokens": 9 + len(reply.split())}
        return 200, {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 0,
            "model": request["model"],
            "choices": [choice],
            "usage": usage,
        }

    def _reply(self, request: dict[str, Any], text: str, picture: str | None, digest: str) -> str:
        if request["model"] == CAPTIONER and picture is not None:
            name = hashlib.sha256(picture.encode()).hexdigest()[:12]
            self.asked.append(Asked("captioner", name, digest))
            return f"Picture {name}, told {random.Random(request['seed']).randrange(10**6)}."
        named = re.search(r"Picture ([0-9a-f]{12})", text)
        if named is None:
            return "Hello!"  # engines greet a server to see whether it lives
        self.asked.append(Asked("judge", named[1], digest))
        return "Answer: A"


@contextmanager
def scripted_prism(pause_s: float = 0.0) -> Iterator[ScriptedPrism]:
    server = ScriptedPrism(pause_s)
    try:
        yield server
    finally:
        server.close()


def prism_recipe(benchmark: WrittenBenchmark, url: str, output: str, **changes: Any) -> PrismRecipe:
    """Three captions an image, shards of four images; `changes` are top-level fields."""
    engine = {"kind": "openai", "urls": [url], "concurrency": 8, "retries": 2, "dead_after_s": 5.0}
    values: dict[str, Any] = {
        "name": "scripted",
        "benchmarks": [
            {
                "name": "world",
                "form": "questions",
                "uri": str(benchmark.questions),
                "images": {"": str(benchmark.pictures)},
                "scorer": "choice",
            }
        ],
        "captioner": {"model": {"name": CAPTIONER}, "captions": CAPTIONS},
        "judge": {"model": {"name": JUDGE}},
        "intervals": {"draws": 200},
        "dataset": {"shard_samples": 4},
        "execution": {
            "output": output,
            "captioner": engine,
            "judge": engine,
            "runner": {"flush_s": 0.05, "decode_workers": 1, "window": 3},
        },
    }
    values |= changes
    if values["captioner"] is None:
        values["execution"] = values["execution"] | {"captioner": None}
    return PrismRecipe.model_validate(values)


def write_recipe(recipe: PrismRecipe, path: Path) -> str:
    """As a file."""
    path.write_text(yaml.safe_dump(recipe.model_dump(mode="json")))
    return str(path)
