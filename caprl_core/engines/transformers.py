"""The engine of machines without vLLM: the transformers library, in one thread of this process."""

import asyncio
import contextlib
import queue
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from caprl_core.data.reasons import Reason
from caprl_core.engines.chat_model import ChatModel
from caprl_core.engines.choice_logprobs import ChoiceTokens, FirstScores
from caprl_core.engines.protocol import EngineInfo, FinishReason, Reply, Request
from caprl_core.errors import BadInputError, EngineDeadError, SampleFailedError
from caprl_core.recipe.models import EngineExecution, ModelRecipe

CLOSED = "the transformers engine has been closed"


@dataclass(frozen=True, slots=True, eq=False)
class _Job:
    request: Request
    loop: asyncio.AbstractEventLoop
    answer: "asyncio.Future[Reply]"

    def finish(self, reply: Reply | Exception) -> None:
        def tell() -> None:
            if self.answer.done():
                return
            if isinstance(reply, Exception):
                self.answer.set_exception(reply)
            else:
                self.answer.set_result(reply)

        with contextlib.suppress(RuntimeError):  # the loop has been closed: nobody waits any more
            self.loop.call_soon_threadsafe(tell)


class TransformersEngine:
    """Whatever requests wait are generated together, up to `batch`, each with its own sampling, seed and limits.

    Uses the GPU if there is one. With `dtype: auto` the weights are float32 on a CPU, else as the checkpoint has them.
    """

    def __init__(self, model: ModelRecipe, execution: EngineExecution) -> None:
        self._model = model
        self._execution = execution
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._dead: str | None = None
        self._closing = False
        self._chat: ChatModel | None = None
        self._choices = ChoiceTokens({})

    @property
    def concurrency(self) -> int:
        """Requests wanted in flight."""
        return self._execution.concurrency

    @property
    def image_encoding(self) -> Literal["png", "bmp"]:
        """Costs no time to make; it never leaves this machine."""
        return "bmp"

    async def start(self) -> EngineInfo:
        """Load the model. Raises `BadInputError` if it is no chat model, or its files cannot be read."""
        path = self._execution.model_path
        if path is not None and not Path(path).is_dir():
            raise BadInputError(f"execution.engine.model_path: {path} is not a folder with a model")
        try:
            version = await asyncio.to_thread(self._load)
        except (OSError, ValueError, KeyError) as error:
            raise BadInputError(f"transformers cannot load {path or self._model.name}: {error}") from error
        self._thread = threading.Thread(target=self._work, name="caprl-transformers", daemon=True)
        self._thread.start()
        return EngineInfo(
            engine="transformers", engine_version=version, model=self._model.name, model_revision=self._model.revision
        )

    def _load(self) -> str:
        import transformers  # noqa: PLC0415 - seconds to import

        self._chat = ChatModel.load(self._model, self._execution)
        self._choices = ChoiceTokens(self._chat.tokenizer.get_vocab())
        return str(transformers.__version__)

    async def generate(self, request: Request) -> Reply:
        """Answer one request; a cancelled one leaves its batch at the next token."""
        if self._dead is not None or self._thread is None:
            raise EngineDeadError(self._dead or "the transformers engine has not been started")
        loop = asyncio.get_running_loop()
        job = _Job(request, loop, loop.create_future())
        self._jobs.put(job)
        return await job.answer

    def _work(self) -> None:
        while (batch := self._next_batch()) is not None:
            try:
                self._answer(batch)
            except Exception as error:  # one thread serves all: it must outlive any request
                self._dead = f"the transformers engine failed: {error!r}"
                for job in batch:
                    job.finish(EngineDeadError(self._dead))
        while not self._jobs.empty():
            left = self._jobs.get()
            if left is not None:
                left.finish(EngineDeadError(self._dead or CLOSED))

    def _next_batch(self) -> list[_Job] | None:
        """Wait for a job and take what else is there; None is the end."""
        batch: list[_Job] = []
        while len(batch) < self._execution.batch:
            try:
                job = self._jobs.get(block=not batch)
            except queue.Empty:
                break
            if job is None or self._dead is not None:
                for other in [*batch, *([] if job is None else [job])]:
                    other.finish(EngineDeadError(self._dead or CLOSED))
                return None
            if not job.answer.done():
                batch.append(job)
        return batch

    def _answer(self, batch: Sequence[_Job]) -> None:
        """Answer a batch; if it fails, each of its jobs alone, to find the one that is to blame."""
        try:
            replies = self._generate([job.request for job in batch], batch)
        except Exception as error:
            if _is_fatal(error):
                raise
            if len(batch) > 1:
                for job in batch:
                    self._answer([job])
                return
            refused = isinstance(error, ValueError | TypeError | IndexError)
            reason = Reason.REQUEST_REFUSED if refused else Reason.REQUEST_FAILED
            batch[0].finish(SampleFailedError(reason, f"{type(error).__name__}: {error}"))
            return
        for job, reply in zip(batch, replies, strict=True):
            # What close() has cut short is not what the model had to say.
            job.finish(EngineDeadError(CLOSED) if self._closing else reply)

    def _generate(self, requests: Sequence[Request], jobs: Sequence[_Job]) -> list[Reply]:
        import torch  # noqa: PLC0415
        from transformers import GenerationConfig  # noqa: PLC0415

        from caprl_core.engines.seeded_sampling import RowEnds, SeededSampling  # noqa: PLC0415 - imports torch

        started = time.monotonic()
        assert self._chat is not None  # noqa: S101 - the thread that calls this starts when it is loaded
        network, tokenizer, limit_of_model = self._chat.network, self._chat.tokenizer, self._chat.limit
        inputs = self._chat.inputs(requests)
        width = inputs["input_ids"].shape[1]
        lengths = inputs["attention_mask"].sum(1).tolist()
        limits = [
            min(request.sampling.max_tokens, limit_of_model - length)
            for request, length in zip(requests, lengths, strict=True)
        ]
        ends = _end_tokens(network.generation_config.eos_token_id)
        # A configuration of our own: the model's would bring its repetition penalty and temperature with it.
        config = GenerationConfig(
            do_sample=False,
            max_new_tokens=max(limits),
            eos_token_id=ends or None,
            pad_token_id=tokenizer.pad_token_id if tokenizer.pad_token_id is not None else (ends or [0])[0],
        )

        def decode(ids: Any) -> str:
            return str(tokenizer.decode(ids, skip_special_tokens=True))

        scores = FirstScores([self._choices.all_ids(request.choices) for request in requests])
        with torch.inference_mode():
            output = network.generate(
                **inputs,
                generation_config=config,
                logits_processor=[
                    scores,
                    SeededSampling(
                        [request.sampling for request in requests],
                        [width - length for length in lengths],
                        network.device,
                    ),
                ],
                stopping_criteria=[
                    RowEnds(
                        width,
                        limits,
                        [request.sampling.stop for request in requests],
                        lambda row: self._closing or jobs[row].answer.done(),
                        decode,
                    )
                ],
            )
        replies = []
        for request, ids, length, limit, by_token in zip(
            requests, output[:, width:].tolist(), lengths, limits, scores.by_token, strict=True
        ):
            end = next((place + 1 for place, token in enumerate(ids) if token in ends), None)
            kept = ids[: min(limit, len(ids)) if end is None else end]
            text, stopped = _cut(decode(kept), request.sampling.stop)
            finish: FinishReason = "stop" if stopped or end is not None else "length"
            logprobs = self._choices.logprobs(request.choices, by_token) if request.choices else None
            replies.append(Reply(text, finish, length, len(kept), time.monotonic() - started, tuple(kept), logprobs))
        return replies

    async def close(self) -> None:
        """End the thread; a batch in the making ends at its next token."""
        self._closing = True
        self._dead = self._dead or CLOSED
        if self._thread is not None:
            self._jobs.put(None)
            await asyncio.to_thread(self._thread.join)
            self._thread = None
        self._chat = None


def _end_tokens(value: int | list[int] | None) -> list[int]:
    if value is None:
        return []
    return [value] if isinstance(value, int) else list(value)


def _cut(text: str, stops: Sequence[str]) -> tuple[str, bool]:
    """The text before the first stop text, and whether there was one."""
    places = [place for stop in stops if (place := text.find(stop)) >= 0]
    return (text[: min(places)], True) if places else (text, False)


def _is_fatal(error: Exception) -> bool:
    """After a CUDA error other than lack of memory the device answers nobody any more."""
    return "CUDA error" in str(error)
