"""What the shard runner asks of an engine, and what an engine answers."""

from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from caprl_core.data.sample import PreparedImage

FinishReason = Literal["stop", "length", "other"]


@dataclass(frozen=True, slots=True)
class Sampling:
    """Sampling of one request.

    temperature 0 is greedy; top_p in (0, 1]; top_k -1 is off; max_tokens counts completion tokens;
    seed is per request, None leaves it to the engine.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = -1
    repetition_penalty: float = 1.0
    max_tokens: int = 2048
    seed: int | None = None
    stop: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Request:
    """One chat turn: an optional system text, the images, then the user's text.

    request_id is unique within the engine's life (`<sample key>/<attempt>/<n>`).
    choices: texts whose log-probabilities as the reply's beginning the engine reports from one forward pass
             (`Reply.choice_logprobs`); `sampling.max_tokens` is 1 then.
    """

    request_id: str
    text: str
    sampling: Sampling
    images: tuple[PreparedImage, ...] = ()
    system: str | None = None
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Reply:
    """One completion. Token counts are the engine's own; latency_s is wall seconds inside the engine.

    choice_logprobs: natural logarithms of probabilities, one for each of the request's choices; None for a choice that
                     is not among the tokens the engine reports (servers report the 20 likeliest).
    failure:         None, or why there is no completion: only stages that tolerate failures are handed such replies.
    """

    text: str
    finish_reason: FinishReason
    prompt_tokens: int
    completion_tokens: int
    latency_s: float
    token_ids: tuple[int, ...] | None = None
    choice_logprobs: tuple[float | None, ...] | None = None
    failure: str | None = None


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """Who answered: recorded in every row."""

    engine: str
    engine_version: str
    model: str
    model_revision: str | None


class Answers(Protocol):
    """All that those need who only ask."""

    async def generate(self, request: Request) -> Reply:
        """As `Engine.generate`."""
        ...


@runtime_checkable
class Engine(Protocol):
    """An engine is started once, asked many times concurrently from one event loop, and closed once.

    `generate` raises `SampleFailedError` when this request alone is to blame, `EngineDeadError` when no further request
    can succeed. `close` is idempotent and leaves no process behind. Cancelling `generate` frees the engine's slot.
    """

    @property
    def concurrency(self) -> int:
        """How many requests the engine wants in flight."""
        ...

    @property
    def image_encoding(self) -> Literal["png", "bmp"]:
        """How this engine wants the pixels: `bmp` costs no time to make, `png` is small enough to send."""
        ...

    async def start(self) -> EngineInfo:
        """Load or connect; returns who will answer. Raises `EngineDeadError` or `BadInputError`."""
        ...

    async def generate(self, request: Request) -> Reply:
        """Answer one request."""
        ...

    async def close(self) -> None:
        """Stop everything this engine started."""
        ...
