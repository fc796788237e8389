"""An HTTP server with OpenAI's interface that plays the writer and the answerer of a script, and keeps its books."""

import base64
import binascii
import hashlib
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from support.scripted_answers import Presented, letter_for, logprobs, tokens, worded
from support.scripted_blocks import CHATTER, REFUSAL, block_of
from support.scripted_corpus import scripted_images
from support.scripted_funnel import Funnel, expected_funnel
from support.scripted_http import ChatServer
from support.scripted_images import ScriptedImage, ScriptedQuestion, corpus_of_pictures, number_in

WRITER, ANSWERER = "scripted-writer", "scripted-answerer"
"""The models it serves."""

Role = Literal["writer", "answerer", "probe", "puzzled"]


@dataclass(frozen=True, slots=True)
class Asked:
    """One chat request.

    digest: of its body: the same request asked again has the same.
    role:   who was asked; `puzzled` is a request that the script has no part for, which no test should cause.
    image:  number in the picture's pixels, or None for a request without an image.
    stem:   of the scripted question, or None for the writer.
    order:  the options shown, as `Vote.order` spells it.
    """

    digest: str
    role: Role
    image: int | None
    stem: str | None
    order: str
    status: int
    reply: str


@dataclass(frozen=True, slots=True)
class _Said:
    role: Role
    text: str
    finish: str = "stop"
    status: int = 200
    stem: str | None = None
    order: str = ""
    logprobs: dict[str, Any] | None = None


class ScriptedQa:
    """`with ScriptedQa(images) as server:` listens on `server.url`; serves the models `WRITER` and `ANSWERER`.

    too_many, broken: shares of the distinct requests whose first arrival is answered with 429 and 500; the second
    arrival of the same request never is. Which ones depends on the request's bytes alone.
    pause_s: seconds each reply takes.
    """

    def __init__(
        self, images: Sequence[ScriptedImage], *, too_many: float = 0.0, broken: float = 0.0, pause_s: float = 0.0
    ) -> None:
        self.images = {image.number: image for image in images}
        if len(self.images) < len(images):
            raise ValueError("two scripted images have the same number")
        self._stems = {_plain(question.stem): (image, question) for image in images for question in image.questions}
        if len(self._stems) < sum(len(image.questions) for image in images):
            raise ValueError("two scripted questions have the same stem")
        self.asked: list[Asked] = []
        """Every chat request, in the order of their ends."""
        self._faults = (too_many, broken)
        self._pause_s = pause_s
        self._arrivals: Counter[str] = Counter()
        self._writer_saw: dict[int, list[str]] = {}
        self._lock = threading.Lock()
        self._server: ChatServer | None = None

    @property
    def url(self) -> str:
        """Base URL for an OpenAI client."""
        assert self._server is not None, "not listening"
        return self._server.url

    def expected_funnel(self, **settings: Any) -> Funnel:
        """See `support.scripted_funnel.expected_funnel`."""
        return expected_funnel(list(self.images.values()), **settings)

    def answered_twice(self) -> list[Asked]:
        """Requests that were asked again although they had been answered before."""
        answered: set[str] = set()
        again = []
        for asked in self.asked:
            if asked.status == 200 and asked.role != "probe":
                again += [asked] if asked.digest in answered else []
                answered.add(asked.digest)
        return again

    def __enter__(self) -> "ScriptedQa":
        self._server = ChatServer((WRITER, ANSWERER), self.chat)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()

    def chat(self, body: bytes) -> tuple[int, dict[str, Any]]:
        """Status and JSON of the answer to one request."""
        digest = hashlib.sha256(body).hexdigest()
        request = json.loads(body)
        picture, text = _parts(request["messages"][-1]["content"])
        number = None if picture is None else number_in(picture)
        time.sleep(self._pause_s)
        with self._lock:
            arrival = self._arrivals[digest]
            self._arrivals[digest] += 1
            said = self._said(request, digest, arrival, picture is not None, number, text)
            self.asked.append(Asked(digest, said.role, number, said.stem, said.order, said.status, said.text))
        if said.status != 200:
            return said.status, {"error": {"message": said.text, "type": "scripted", "code": None}}
        used = len(tokens(said.text))
        prompt = 16 + len(tokens(text)) + (9 if picture is not None else 0)
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": said.text},
            "finish_reason": said.finish,
            "logprobs": said.logprobs,
        }
        return 200, {
            "id": f"chatcmpl-{digest[:16]}",
            "object": "chat.completion",
            "created": 0,
            "model": request["model"],
            "choices": [choice],
            "usage": {"prompt_tokens": prompt, "completion_tokens": used, "total_tokens": prompt + used},
        }

    def _said(
        self, request: dict[str, Any], digest: str, arrival: int, has_image: bool, number: int | None, text: str
    ) -> _Said:
        model = request.get("model")
        if model not in (WRITER, ANSWERER):
            return _Said("puzzled", f"The model `{model}` does not exist.", status=404)
        found = next((found for stem, found in self._stems.items() if stem in _plain(text)), None)
        if not has_image and found is None:
            # Engines greet a server to see whether it lives.
            return _Said("probe", "Hello!") if len(text) < 40 else _Said("puzzled", "I do not know this question.")
        if has_image and number not in self.images:
            return _Said("puzzled", "I do not know this picture.")
        if (fault := self._fault(digest, arrival)) is not None:
            return _Said("writer" if model == WRITER else "answerer", "to order", status=fault)
        if model == WRITER:
            return _Said("puzzled", "I need a picture.") if number is None else self._written(number, digest)
        if found is None or (number is not None and found[0].number != number):
            return _Said("puzzled", "That is no question about this picture.")
        return self._answered(found[1], request, digest, arrival, has_image, text)

    def _fault(self, digest: str, arrival: int) -> int | None:
        if arrival:
            return None
        draw, (too_many, broken) = random.Random(f"fault/{digest}").random(), self._faults
        if draw < too_many:
            return 429
        return 500 if draw < too_many + broken else None

    def _written(self, number: int, digest: str) -> _Said:
        image = self.images[number]
        requests = self._writer_saw.setdefault(number, [])
        if digest not in requests:
            requests.append(digest)
        match image.kind:
            case "server_error":
                return _Said("writer", "internal error", status=500)
            case "too_long":
                return _Said("writer", "the prompt is too long", status=400)
            case "empty":
                return _Said("writer", "")
            case "chatter":
                return _Said("writer", CHATTER)
            case "refusal":
                return _Said("writer", REFUSAL)
            case "refusal_once" if requests.index(digest) == 0:
                return _Said("writer", REFUSAL)
            case _:
                text, finish = block_of(image)
                return _Said("writer", text, finish)

    def _answered(
        self, question: ScriptedQuestion, request: dict[str, Any], digest: str, arrival: int, has_image: bool, text: str
    ) -> _Said:
        shown = Presented.read(text, question)
        if shown.gold is None:
            return _Said("puzzled", "The right option is not among those shown.", stem=question.stem)
        draw = random.Random(f"answer/{digest}")
        if question.behaviour == "fails" or (question.behaviour == "flaky" and arrival == 0):
            status = 500 if question.behaviour == "fails" else draw.choice((429, 500))
            return _Said("answerer", "to order", status=status, stem=question.stem, order=shown.order)
        letter = letter_for(question, shown, has_image, draw)
        limit = int(request.get("max_tokens") or request.get("max_completion_tokens") or 16)
        # One token leaves no room for phrases: a model asked for its letter alone puts its mass on letters.
        reply = letter if limit == 1 and letter is not None else worded(letter, shown, limit, draw)
        top = int(request.get("top_logprobs") or 0)
        likely = logprobs(reply, letter, shown, min(top, 20)) if request.get("logprobs") else None
        return _Said("answerer", reply, stem=question.stem, order=shown.order, logprobs=likely)


@contextmanager
def scripted_qa(folder: Path, images: Sequence[ScriptedImage] | None = None, **manners: float) -> Iterator[ScriptedQa]:
    """Draw the pictures into `folder` and serve the script; without `images`, the one that covers everything."""
    images = scripted_images() if images is None else images
    corpus_of_pictures(folder, images)
    with ScriptedQa(images, **manners) as server:
        yield server


def _parts(content: str | list[dict[str, Any]]) -> tuple[bytes | None, str]:
    """The picture's bytes and the last text of a user's message."""
    if isinstance(content, str):
        return None, content
    picture = None
    for part in content:
        if part["type"] == "image_url":
            head, _, data = part["image_url"]["url"].partition(",")
            try:
                picture = base64.b64decode(data, validate=True) if head.startswith("data:image") else b""
            except binascii.Error:
                picture = b""
    texts = [part["text"] for part in content if part["type"] == "text"]
    return picture, texts[-1] if texts else ""


def _plain(text: str) -> str:
    return " ".join(text.split())
