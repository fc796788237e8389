"""An OpenAI-compatible server with two models and a model of time: places, prefill, prefix cache, decoding, long tails.

The model. A server works on at most `places` requests at once; others wait in the order of arrival. A request in its
place takes
    (base + prefill x tokens of the prompt that are not cached) x tail, then decode x tokens of the completion x tail
seconds, each tail log-normal with mean 1. An image counts 1,000 tokens, text one token for every four characters. What
is cached are prefixes of a prompt, as servers cache them: up to the end of an image, and every 16 tokens of text after
it; a prefix is cached from the moment on at which a request that has it ends its prefill, and is never evicted (300
images are 0.3 million tokens; the cache of a 3B model on 80 GB holds over 1.5 million). The speed of a place does not
depend on how many others are busy.
"""

import argparse
import asyncio
import base64
import contextlib
import hashlib
import io
import random
import socket
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

import orjson
from aiohttp import web
from PIL import Image, ImageDraw

from caprl_core.qa.question import Question

IMAGE_TOKENS = 1000
BLOCK_TOKENS, TOKEN_CHARACTERS = 16, 4
MARK_CELL, MARK_CELLS = 16, 12
"""A mark of black and white cells tells the writer which picture it sees, so that all ask for the same blocks."""


@dataclass(frozen=True, slots=True)
class ServedModel:
    """Seconds as in the module's text; sigma is the deviation of a tail's logarithm."""

    places: int
    base_s: float
    prefill_s: float
    decode_s: float
    sigma: float


WRITER, ANSWERER = "writer", "answerer"
MODELS = {
    # A 72B model on four GPUs, 64 requests at once: 25 tokens/s each, so a block of 400 takes 16 s.
    WRITER: ServedModel(places=64, base_s=0.05, prefill_s=0.00025, decode_s=0.04, sigma=0.5),
    # A 3B model on one GPU: 57 ms for a letter where the image is cached, 157 ms where it is not. 256 requests at once
    # are vLLM's default (max_num_seqs) on an A100; on an H100 it is 1,024.
    ANSWERER: ServedModel(places=256, base_s=0.025, prefill_s=0.0001, decode_s=0.012, sigma=0.5),
}
SCALE = {WRITER: 1 / 3, ANSWERER: 30.0}
"""Of time: shorter blocks' waiting for the writer; for the answerer longer ones, or the clients would be measured."""


def mark(picture: Image.Image, number: int) -> None:
    """Draw the mark of picture `number`, below 4,096, into its upper left corner."""
    draw = ImageDraw.Draw(picture)
    for cell, digit in enumerate(f"{number:0{MARK_CELLS}b}"):
        left = cell * MARK_CELL
        draw.rectangle((left, 0, left + MARK_CELL - 1, MARK_CELL - 1), fill="white" if digit == "1" else "black")


def marked(data: bytes) -> int:
    """The number of a marked picture at its own size."""
    with Image.open(io.BytesIO(data)) as picture:
        strip = picture.convert("L").crop((0, 0, MARK_CELL * MARK_CELLS, MARK_CELL))
    pixels, middle = strip.tobytes(), MARK_CELL // 2
    cells = [pixels[middle * strip.width + cell * MARK_CELL + middle] for cell in range(MARK_CELLS)]
    return int("".join("1" if cell > 127 else "0" for cell in cells), 2)


def questions(number: int) -> list[Question]:
    """The 1 to 3 questions of picture `number`."""
    draw = random.Random(f"block/{number}")
    found = []
    for question in range(1, draw.randint(1, 3) + 1):
        stem = f"What is seen {' '.join(draw.choice(WORDS) for _ in range(10))} in picture {number}.{question}?"
        options = tuple(f"the {word} one" for word in draw.sample(WORDS, 4))
        found.append(Question(stem, options, draw.randrange(4)))
    return found


def block(number: int) -> str:
    """What the writer says of picture `number`, in the released format."""
    pieces = []
    for place, question in enumerate(questions(number), 1):
        options = "\n".join(f"   - {letter}) {text}" for letter, text in zip("ABCD", question.options, strict=True))
        answer = f"**Answer:** {question.answer}) {question.gold_text}\n------"
        pieces.append(f"#### {place}. **{question.stem}**\n{options}\n\n{answer}")
    return "\n".join(pieces)


WORDS = (
    *("red", "blue", "dark", "small", "round", "tree", "bird", "lake", "roof", "stone", "chair", "paper", "bottle"),
    *("window", "garden", "yellow", "narrow", "silver", "wooden", "distant", "open", "broken", "folded", "striped"),
)


class PrefixServer:
    """The state of one server: who is at work, and what is cached."""

    def __init__(self, models: dict[str, ServedModel], scale: dict[str, float]) -> None:
        self._models, self._scale = models, scale
        self._places = {name: asyncio.Semaphore(model.places) for name, model in models.items()}
        self._cached: set[bytes] = set()
        self._arrivals = count()
        self._numbers: dict[bytes, int] = {}
        self._busy = self._most = 0
        self._tokens, self._hits = 0, 0

    def application(self) -> web.Application:
        """Routes of OpenAI's interface, and of this measurement's own."""
        application = web.Application(client_max_size=2**26)
        application.router.add_post("/v1/chat/completions", self.chat)
        application.router.add_get("/v1/models", self.models)
        application.router.add_post("/forget", self.forget)
        return application

    async def models(self, _: web.Request) -> web.Response:
        data = [{"id": name, "object": "model", "created": 0, "owned_by": "bench"} for name in self._models]
        return web.json_response({"object": "list", "data": data})

    async def forget(self, _: web.Request) -> web.Response:
        """Empty the cache for the next contestant; says how the last one did."""
        said = {"most_at_work": self._most, "prompt_tokens": self._tokens, "cached_tokens": self._hits}
        said["requests"] = next(self._arrivals)
        self._cached.clear()
        self._most = self._tokens = self._hits = 0
        self._arrivals = count()
        return web.json_response(said)

    async def chat(self, http: web.Request) -> web.Response:
        """One completion, after its time."""
        request = orjson.loads(await http.read())
        name, model = request["model"], self._models[request["model"]]
        scale = self._scale[name]
        prompt = [*_prefixes(name, request["messages"])]
        draw = random.Random(next(self._arrivals))
        async with self._places[name]:
            self._busy += 1
            self._most = max(self._most, self._busy)
            try:
                known = next((tokens for tokens, key in reversed(prompt) if key in self._cached), 0)
                total = prompt[-1][0]
                self._tokens, self._hits = self._tokens + total, self._hits + known
                before = model.base_s + model.prefill_s * (total - known)
                await asyncio.sleep(scale * before * _tail(draw, model.sigma))
                self._cached.update(key for _, key in prompt)
                text, tail = self._said(name, request, draw, model)
                used = max(2, len(text) // TOKEN_CHARACTERS)
                await asyncio.sleep(scale * model.decode_s * used * tail)
            finally:
                self._busy -= 1
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        usage = {"prompt_tokens": total, "completion_tokens": used, "total_tokens": total + used}
        answer = {"id": "chatcmpl", "object": "chat.completion", "created": 0, "model": name}
        body = orjson.dumps(answer | {"choices": [choice], "usage": usage})
        return web.Response(body=body, content_type="application/json")

    def _said(self, name: str, request: dict[str, Any], draw: random.Random, model: ServedModel) -> tuple[str, float]:
        """The completion, and the tail of its decoding: the writer's belongs to the picture, whoever asks."""
        if name == ANSWERER:
            return draw.choice("ABCD"), _tail(draw, model.sigma)
        for data in _images(request["messages"]):
            key = hashlib.sha256(data.encode()).digest()
            if key not in self._numbers:
                self._numbers[key] = marked(base64.b64decode(data.partition(",")[2]))
            number = self._numbers[key]
            return block(number), _tail(random.Random(f"tail/{number}"), model.sigma)
        return "Hello!", 1.0


def _tail(draw: random.Random, sigma: float) -> float:
    return draw.lognormvariate(-(sigma**2) / 2, sigma)


def _parts(messages: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """Kind (`text` or `image`) and content of every part of a prompt, in order."""
    found = []
    for message in messages:
        if isinstance(message["content"], str):
            found.append(("text", message["content"]))
            continue
        for part in message["content"]:
            text = part["type"] == "text"
            found.append(("text", part["text"]) if text else ("image", part["image_url"]["url"]))
    return found


def _images(messages: list[dict[str, Any]]) -> list[str]:
    return [content for kind, content in _parts(messages) if kind == "image"]


def _prefixes(model: str, messages: list[dict[str, Any]]) -> list[tuple[int, bytes]]:
    """Tokens and key of every prefix of a prompt that can be cached, and at last of the whole prompt."""
    digest = hashlib.sha256(model.encode())
    tokens, found = 1, [(1, digest.digest())]
    for kind, content in _parts(messages):
        if kind == "image":
            digest.update(content.encode())
            tokens += IMAGE_TOKENS
            found.append((tokens, digest.digest()))
            continue
        size = BLOCK_TOKENS * TOKEN_CHARACTERS
        for start in range(0, len(content), size):
            piece = content[start : start + size]
            digest.update(piece.encode())
            tokens += -(-len(piece) // TOKEN_CHARACTERS)
            found.append((tokens, digest.digest()))
    return found


async def _serve(models: dict[str, ServedModel], scale: dict[str, float]) -> None:
    runner = web.AppRunner(PrefixServer(models, scale).application(), access_log=None)
    await runner.setup()
    listening = socket.create_server(("127.0.0.1", 0), backlog=1024)
    await web.SockSite(runner, listening, backlog=1024).start()
    print(f"http://127.0.0.1:{listening.getsockname()[1]}/v1", flush=True)
    await asyncio.Event().wait()


def main() -> None:
    """`python -m bench.prefix_server`; prints its URL and serves until a signal comes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--speed", type=float, default=1.0, help="how many times faster than the measurement's scale")
    parser.add_argument("--answer-places", type=int, default=MODELS[ANSWERER].places)
    arguments = parser.parse_args()
    models = MODELS | {ANSWERER: replace(MODELS[ANSWERER], places=arguments.answer_places)}
    scale = {name: factor / arguments.speed for name, factor in SCALE.items()}
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(models, scale))


if __name__ == "__main__":
    main()
