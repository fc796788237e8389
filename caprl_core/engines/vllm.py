"""The vLLM engine inside this process: its front end runs on our event loop, its core in a child process."""

import asyncio
import contextlib
import gc
import io
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import psutil
from PIL import Image

from caprl_core.data.reasons import Reason
from caprl_core.data.sample import PreparedImage
from caprl_core.engines.choice_logprobs import ChoiceTokens
from caprl_core.engines.protocol import EngineInfo, FinishReason, Reply, Request, Sampling
from caprl_core.engines.reaper import Reaper, kill_marked
from caprl_core.engines.vllm_settings import default_environment, engine_arguments, environment, has_gpu
from caprl_core.errors import BadInputError, EngineDeadError, SampleFailedError
from caprl_core.recipe.models import EngineExecution, ModelRecipe

# vLLM prepares images for the model in one thread of its own; two that decode PNG (20 ms a megapixel) keep it fed.
DECODE_THREADS = 2
# How long the engine core may take to end before it is killed. It gives its resources back within 0.6 s of the signal,
# but the CPU build's interpreter then hangs until vLLM's own limit of 5 s.
CLOSE_S = 2.0
# With a cache of prepared images (mm_processor_cache_gb), vLLM's front end sends an image's data once. Should its core
# have lost them, it ends the request with "error", forgets the image, and expects to be asked once more. Requests that
# were asking for that image meanwhile trip over the forgetting (AssertionError in its cache), each of them once, so the
# pause before another try doubles: 0.05 to 0.4 s.
ASKED_WITH_IMAGES = 5
FIRST_PAUSE_S = 0.05


class VllmEngine:
    """An engine on vLLM's AsyncLLM (written against vLLM 0.32).

    The prompt is what the model's own chat template makes of the messages, through the renderer that `vllm serve` uses,
    so both give the same tokens. Rendering and image preparation run in vLLM's threads, not on the event loop.
    Variables set while vLLM starts, where unset: see `vllm_settings.default_environment`. A script that starts this
    engine needs an `if __name__ == "__main__"` guard, because the core is a spawned process.
    """

    def __init__(self, model: ModelRecipe, execution: EngineExecution) -> None:
        self._model = model
        self._execution = execution
        self._reaper = Reaper()
        self._decoders = ThreadPoolExecutor(DECODE_THREADS, thread_name_prefix="caprl-decode")
        self._llm: Any = None
        self._choices: ChoiceTokens | None = None
        self._processes: list[psutil.Process] = []
        self._answering: set[asyncio.Task[Any]] = set()
        self._last_success = 0.0
        self._dead: str | None = None

    @property
    def concurrency(self) -> int:
        """Requests wanted in flight."""
        return self._execution.concurrency

    @property
    def image_encoding(self) -> Literal["png", "bmp"]:
        """Costs no time to make; it never leaves this machine."""
        return "bmp"

    @property
    def process_ids(self) -> tuple[int, ...]:
        """Processes of the running engine core and its workers."""
        return tuple(process.pid for process in self._processes)

    async def start(self) -> EngineInfo:
        """Load the model. Raises `BadInputError` for settings or a model vLLM refuses, else `EngineDeadError`."""
        path = self._execution.model_path
        if path is not None and not Path(path).is_dir():
            raise BadInputError(f"execution.engine.model_path: {path} is not a folder with a model")
        self._reaper.start()
        load = asyncio.ensure_future(asyncio.to_thread(self._load))
        try:
            version = await asyncio.shield(load)
        except asyncio.CancelledError:
            # The thread cannot be stopped, but without its core it gives up at once.
            await asyncio.to_thread(kill_marked, self._reaper.mark)
            with contextlib.suppress(Exception):
                await load
            await self.close()
            raise
        except (ValueError, TypeError, OSError) as error:
            await self.close()
            raise BadInputError(
                f"vLLM refuses the model {path or self._model.name} or its settings: {error}"
            ) from error
        except Exception as error:
            await self.close()
            raise EngineDeadError(f"vLLM did not start, its own messages above say why: {error!r}") from error
        manager = self._llm.engine_core.resources.engine_manager
        for core in getattr(manager, "processes", ()):
            with contextlib.suppress(psutil.NoSuchProcess):
                process = psutil.Process(core.pid)
                self._processes += [process, *process.children(recursive=True)]
        return EngineInfo(
            engine="vllm", engine_version=version, model=self._model.name, model_revision=self._model.revision
        )

    def _load(self) -> str:
        gpu = has_gpu()
        with environment(default_environment(gpu) | self._reaper.environment()):
            import vllm  # noqa: PLC0415 - optional, slow, and it reads the environment when imported
            from vllm.engine.arg_utils import AsyncEngineArgs  # noqa: PLC0415
            from vllm.v1.engine.async_llm import AsyncLLM  # noqa: PLC0415

            arguments = engine_arguments(self._model, self._execution, gpu)
            self._llm = AsyncLLM.from_engine_args(
                AsyncEngineArgs(**{"disable_log_stats": True, "enable_log_requests": False} | arguments)
            )
        return str(vllm.__version__)

    async def generate(self, request: Request) -> Reply:
        """Answer one request; a cancelled call is aborted in the engine."""
        if self._llm is None or self._dead is not None:
            raise EngineDeadError(self._dead or "the vLLM engine has not been started")
        started = time.monotonic()
        answer = asyncio.ensure_future(self._answer(request))
        self._answering.add(answer)
        try:
            async with asyncio.timeout(self._execution.timeout_s):
                reply = await answer
        except TimeoutError:
            raise await self._blame_for_time_out(started) from None
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise EngineDeadError("the vLLM engine was closed before it had answered") from None
        finally:
            self._answering.discard(answer)
            answer.cancel()
        self._last_success = time.monotonic()
        return reply

    async def _blame_for_time_out(self, started: float) -> EngineDeadError | SampleFailedError:
        """A request ran out of time: it is to blame if the engine answered another one meanwhile, or does now."""
        text = f"no reply within {self._execution.timeout_s:g} s (execution.engine.timeout_s)"
        if self._last_success > started or await self._answers_a_trifle():
            return SampleFailedError(Reason.REQUEST_FAILED, text)
        self._dead = f"the vLLM engine hangs: {text}, nor to a one-token request"
        return EngineDeadError(self._dead)

    async def _answers_a_trifle(self) -> bool:
        trifle = Request(f"probe/{time.monotonic_ns()}", "Hello", Sampling(temperature=0, max_tokens=1))
        try:
            async with asyncio.timeout(self._execution.dead_after_s):
                await self._answer(trifle)
        except (TimeoutError, EngineDeadError, SampleFailedError):
            return False
        self._last_success = time.monotonic()
        return True

    async def _answer(self, request: Request) -> Reply:
        for times in range(ASKED_WITH_IMAGES if request.images else 1):
            if times:
                await asyncio.sleep(FIRST_PAUSE_S * 2 ** (times - 1))
            reply = await self._answer_once(request)
            if reply is not None:
                return reply
        raise SampleFailedError(Reason.REQUEST_FAILED, "vLLM ended it with 'error'")

    async def _answer_once(self, request: Request) -> Reply | None:
        """The reply; None if vLLM ended the request with "error", or lost its image on the way."""
        from vllm.exceptions import GracefulHTTPError, VLLMClientError  # noqa: PLC0415
        from vllm.v1.engine.exceptions import EngineDeadError as VllmDeadError  # noqa: PLC0415

        started = time.monotonic()
        try:
            prompt = await self._render(request)
        except (VLLMClientError, ValueError, TypeError, KeyError) as error:
            raise SampleFailedError(Reason.REQUEST_REFUSED, f"{type(error).__name__}: {error}") from error
        except AssertionError:
            if not request.images:
                raise
            return None
        tokens = self._choice_tokens().all_ids(request.choices) if request.choices else []
        final: Any = None
        try:
            async for output in self._llm.generate(
                prompt, _sampling_params(request.sampling, tokens), request.request_id
            ):
                final = output
        except VllmDeadError as error:
            self._dead = f"vLLM's engine core has died, its own messages above say why: {error}"
            raise EngineDeadError(self._dead) from error
        except VLLMClientError as error:
            raise SampleFailedError(Reason.REQUEST_REFUSED, str(error)) from error
        except (GracefulHTTPError, Exception) as error:
            raise SampleFailedError(Reason.REQUEST_FAILED, f"{error!r} from {error.__cause__!r}") from error
        completion = final.outputs[0]
        if completion.finish_reason == "error":
            return None
        if completion.finish_reason in (None, "abort"):
            # Not what the model had to say: the engine gave up on this request.
            raise SampleFailedError(Reason.REQUEST_FAILED, f"vLLM ended it with {completion.finish_reason!r}")
        return Reply(
            text=completion.text,
            finish_reason=_finish_reason(completion.finish_reason),
            prompt_tokens=len(final.prompt_token_ids or ()),
            completion_tokens=len(completion.token_ids),
            latency_s=time.monotonic() - started,
            token_ids=tuple(completion.token_ids),
            choice_logprobs=self._choice_logprobs(request, completion.logprobs),
        )

    def _choice_tokens(self) -> ChoiceTokens:
        if self._choices is None:
            # Looked up, not encoded: vLLM's own threads use the tokenizer, which takes one caller at a time.
            self._choices = ChoiceTokens(self._llm.get_tokenizer().get_vocab())
        return self._choices

    def _choice_logprobs(self, request: Request, steps: Any) -> tuple[float | None, ...] | None:
        if not request.choices:
            return None
        first = steps[0] if steps else {}
        return self._choice_tokens().logprobs(
            request.choices, {number: entry.logprob for number, entry in first.items()}
        )

    async def _render(self, request: Request) -> Any:
        from vllm.renderers.params import ChatParams  # noqa: PLC0415

        loop = asyncio.get_running_loop()
        pictures = await asyncio.gather(
            *(loop.run_in_executor(self._decoders, _decode, image) for image in request.images)
        )
        renderer = self._llm.renderer
        _, prompts = await renderer.render_chat_async(
            [_messages(request, pictures)],
            ChatParams(chat_template_kwargs={"add_generation_prompt": True}),
            # The template writes the control tokens itself, as in the server.
            renderer.default_chat_tok_params.with_kwargs(add_special_tokens=False),
        )
        return prompts[0]

    async def close(self) -> None:
        """Stop the core and everything below it."""
        self._dead = self._dead or "the vLLM engine has been closed"
        for task in self._answering:
            task.cancel()
        if self._llm is not None:
            handler = getattr(self._llm, "output_handler", None)
            if handler is not None:
                handler.cancel()  # or it reports the end of the core as an accident
            down = asyncio.ensure_future(asyncio.to_thread(self._llm.shutdown))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_S):
                    while not all(map(_has_ended, self._processes)):  # noqa: ASYNC110 - processes raise no events here
                        await asyncio.sleep(0.05)
            for process in self._processes:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            await down
            self._llm = None
            self._processes = []
            gc.collect()  # left to the interpreter's end, vLLM's own clean-up fails with a traceback
        self._decoders.shutdown(wait=False, cancel_futures=True)
        self._reaper.stop()


def _has_ended(process: psutil.Process) -> bool:
    # Looked at, not waited for: its exit status belongs to multiprocessing.
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def _decode(image: PreparedImage) -> Image.Image:
    with Image.open(io.BytesIO(image.encoded)) as picture:
        return picture.convert("RGB")


def _messages(request: Request, pictures: Sequence[Image.Image]) -> list[dict[str, Any]]:
    content: list[dict[str, Any]] = [{"type": "image_pil", "image_pil": picture} for picture in pictures]
    content.append({"type": "text", "text": request.text})
    messages: list[dict[str, Any]] = [{"role": "user", "content": content}]
    if request.system is not None:
        messages.insert(0, {"role": "system", "content": request.system})
    return messages


def _sampling_params(sampling: Sampling, scored: Sequence[int]) -> Any:
    from vllm import SamplingParams  # noqa: PLC0415
    from vllm.sampling_params import RequestOutputKind  # noqa: PLC0415

    return SamplingParams(
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        top_k=sampling.top_k,
        repetition_penalty=sampling.repetition_penalty,
        max_tokens=sampling.max_tokens,
        seed=sampling.seed,
        stop=list(sampling.stop),
        output_kind=RequestOutputKind.FINAL_ONLY,
        # Before temperature and penalties (logprobs_mode raw_logprobs, the default).
        logprob_token_ids=list(scored) or None,
    )


def _finish_reason(reason: str) -> FinishReason:
    if reason == "stop":
        return "stop"
    return "length" if reason == "length" else "other"
