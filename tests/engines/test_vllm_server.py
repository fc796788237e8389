"""vLLM's own server under the `openai` engine: the same prompt, the same tokens, and no process left."""

import asyncio
import importlib.util
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from caprl_core.data.reasons import Reason
from caprl_core.engines.openai import OpenAIEngine
from caprl_core.engines.protocol import Request, Sampling
from caprl_core.engines.server import VllmServer
from caprl_core.engines.transformers import TransformersEngine
from caprl_core.errors import BadInputError, EngineDeadError, SampleFailedError
from caprl_core.recipe.models import EngineExecution, ModelRecipe

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.xdist_group("vllm"),
    pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed"),
]
ASK = "Please describe this image in detail."


@pytest.fixture(scope="module")
def server(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[VllmServer]:
    log = tmp_path_factory.mktemp("server") / "log"
    with VllmServer(tiny_model, name="tiny-captioner", arguments=["--max-model-len", "2048"], log=log) as server:
        yield server
        group = os.getpgid(server.process_id)
    assert not [process for process in psutil.process_iter() if group_of(process) == group]


def group_of(process: psutil.Process) -> int | None:
    try:
        return os.getpgid(process.pid)
    except ProcessLookupError:
        return None


def settings(server: VllmServer, **changes) -> EngineExecution:
    values = {"concurrency": 16, "timeout_s": 60, "dead_after_s": 3, "extra": {"return_token_ids": True}}
    return EngineExecution(kind="openai", urls=(server.url,), **(values | changes))


async def test_the_server_says_what_transformers_says(
    server: VllmServer, tiny_model: Path, tiny_recipe: ModelRecipe, draw: Callable
) -> None:
    remote = OpenAIEngine(tiny_recipe, settings(server))
    local = TransformersEngine(tiny_recipe, EngineExecution(kind="transformers", model_path=str(tiny_model)))
    info = await remote.start()
    assert info.engine_version.startswith("vllm ")
    await local.start()
    requests = [
        Request(f"{n}", ASK, Sampling(temperature=0, max_tokens=24), (draw(n, 140 + 28 * n, 112),)) for n in range(6)
    ]
    theirs = await asyncio.gather(*(remote.generate(request) for request in requests))
    ours = await asyncio.gather(*(local.generate(request) for request in requests))
    await remote.close()
    await local.close()
    assert [reply.token_ids for reply in theirs] == [reply.token_ids for reply in ours]
    assert [reply.prompt_tokens for reply in theirs] == [reply.prompt_tokens for reply in ours]
    assert [reply.text for reply in theirs] == [reply.text for reply in ours]


async def test_seeded_requests_overfill_the_server_and_bad_ones_fail_alone(
    server: VllmServer, tiny_recipe: ModelRecipe, draw: Callable
) -> None:
    engine = OpenAIEngine(tiny_recipe, settings(server))
    good = [Request(f"{n}", ASK, Sampling(seed=n, max_tokens=20), (draw(n, 560, 420),)) for n in range(48)]
    bad = [
        Request("long", "word " * 4000, Sampling(max_tokens=5)),
        Request("two", ASK, Sampling(max_tokens=5), (draw(1), draw(2))),
    ]
    results = await asyncio.gather(*(engine.generate(r) for r in [*good, *bad]), return_exceptions=True)
    await engine.close()
    assert {result.finish_reason for result in results[:-2]} == {"stop", "length"}  # type: ignore[union-attr]
    assert [type(result) for result in results[-2:]] == [SampleFailedError] * 2
    assert {result.reason for result in results[-2:]} == {Reason.REQUEST_REFUSED}  # type: ignore[union-attr]


async def test_a_model_the_server_does_not_serve_is_named(server: VllmServer, tiny_recipe: ModelRecipe) -> None:
    engine = OpenAIEngine(tiny_recipe, settings(server, served_name="other"))
    with pytest.raises(BadInputError, match="serves tiny-captioner, not 'other'"):
        await engine.start()
    await engine.close()


async def test_a_killed_engine_core_is_a_dead_engine(
    server: VllmServer, tiny_recipe: ModelRecipe, draw: Callable
) -> None:
    """The last test of the module's server."""
    engine = OpenAIEngine(tiny_recipe, settings(server, extra={"ignore_eos": True}))
    asked = [
        asyncio.create_task(engine.generate(Request(f"{n}", ASK, Sampling(temperature=0, max_tokens=1800), (draw(n),))))
        for n in range(8)
    ]
    await asyncio.sleep(0.7)
    for child in psutil.Process(server.process_id).children(recursive=True):
        if any("EngineCore" in word for word in child.cmdline()):
            child.send_signal(signal.SIGKILL)
    results = await asyncio.gather(*asked, return_exceptions=True)
    await engine.close()
    assert EngineDeadError in {type(result) for result in results}
    assert not any(isinstance(result, SampleFailedError) for result in results)


def test_a_server_that_cannot_start_shows_its_last_words(tmp_path: Path) -> None:
    with pytest.raises(EngineDeadError, match="ended while starting"), VllmServer(tmp_path / "absent"):
        pass
