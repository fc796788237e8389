"""The released method's two loops, as its scripts work (fact sheet, section 7, defects 1, 2 and 7), not their code.

32 threads and one client; a batch of 100 images is handed to the threads and awaited whole before the next is; results
are appended to a file after each batch; what fails is dropped.
"""

import base64
import json
import random
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from openai import OpenAI

from caprl_core.qa.question import LETTERS, Question

THREADS, BATCH, ROTATIONS = 32, 100, 4
INSTRUCTION = "Reply with the right option's letter, nothing else."
SYSTEM = "Write five multiple-choice questions about the image, four options each, and mark the right one."


class ReleasedLoops:
    """Both return seconds and the number of requests that were answered."""

    def __init__(self, url: str, writer: str, answerer: str, results: Path) -> None:
        self._client = OpenAI(base_url=url, api_key="none", timeout=600)
        self._writer, self._answerer, self._results = writer, answerer, results
        self._shuffling = random.Random(0)

    def generate(self, images: Sequence[Path]) -> tuple[float, int]:
        """One request an image."""
        return self._batches(images, self._block)

    def answer(self, questions: Sequence[tuple[Path, Sequence[Question]]]) -> tuple[float, int]:
        """Per question and rotation one request with the image and one without, each after the other."""
        return self._batches(questions, self._votes)

    def _batches(self, items: Sequence[Any], work: Callable[[Any], list[Any]]) -> tuple[float, int]:
        requests = 0
        started = time.monotonic()
        with ThreadPoolExecutor(THREADS) as pool, self._results.open("w") as results:
            for start in range(0, len(items), BATCH):
                done = [
                    future.result() for future in [pool.submit(work, item) for item in items[start : start + BATCH]]
                ]
                requests += sum(len(replies) for replies in done)
                results.writelines(json.dumps(replies) + "\n" for replies in done)
                results.flush()
        return time.monotonic() - started, requests

    def _block(self, image: Path) -> list[Any]:
        try:
            return [self._ask(self._writer, "The image.", image, 2048, SYSTEM)]
        except Exception:
            return []

    def _votes(self, item: tuple[Path, Sequence[Question]]) -> list[Any]:
        image, questions = item
        votes = []
        try:
            for question in questions:
                for _ in range(ROTATIONS):
                    order = self._shuffling.sample(range(len(question.options)), len(question.options))
                    shown = [question.options[place] for place in order]
                    gold = LETTERS[order.index(question.gold)]
                    for picture, options in ((image, [*shown, "None of the above"]), (None, shown)):
                        lines = [f"   - {letter}) {text}" for letter, text in zip(LETTERS, options, strict=False)]
                        text = (
                            "\n".join([question.stem, *lines]) + "\nReply with the right option's letter, nothing else."
                        )
                        votes.append(gold in self._ask(self._answerer, text, picture, 4))
        except Exception:
            return []
        return votes

    def _ask(self, model: str, text: str, image: Path | None, max_tokens: int, system: str | None = None) -> str:
        content: list[Any] = [{"type": "text", "text": text}]
        if image is not None:
            # Read and encoded for every request anew.
            url = "data:image/jpeg;base64," + base64.b64encode(image.read_bytes()).decode()
            content.insert(0, {"type": "image_url", "image_url": {"url": url}})
        messages: list[Any] = [{"role": "user", "content": content}]
        if system is not None:
            messages.insert(0, {"role": "system", "content": system})
        completion = self._client.chat.completions.create(
            model=model,
            messages=messages,
            temperature=0.1,
            max_tokens=max_tokens,
            extra_body={"repetition_penalty": 1.05},
        )
        return completion.choices[0].message.content or ""
