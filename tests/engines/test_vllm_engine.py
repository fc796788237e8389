"""The real vLLM, in this process: its replies, its refusals, and its death."""

import asyncio
import contextlib
import importlib.util
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import psutil
import pytest
import pytest_asyncio

from caprl_core.data.reasons import Reason
from caprl_core.engines.protocol import Engine, Request, Sampling
from caprl_core.engines.transformers import TransformersEngine
from caprl_core.engines.vllm import VllmEngine
from caprl_core.errors import BadInputError, EngineDeadError, SampleFailedError
from caprl_core.recipe.models import EngineExecution, ModelRecipe

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.xdist_group("vllm"),
    pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed"),
]
ASK = "Please describe this image in detail."
SCRIPT = Path(__file__).with_name("lone_engine.py")


def greedy(number: int, picture, tokens: int = 24) -> Request:
    return Request(f"greedy/{number}/{uuid.uuid4()}", ASK, Sampling(temperature=0, max_tokens=tokens), (picture,))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine(tiny_model: Path, tiny_recipe: ModelRecipe) -> AsyncIterator[VllmEngine]:
    before = dict(os.environ)
    settings = EngineExecution(
        kind="vllm",
        model_path=str(tiny_model),
        concurrency=16,
        max_model_len=2048,
        extra={"enable_prefix_caching": False},
    )
    engine = VllmEngine(tiny_recipe, settings)
    info = await engine.start()
    assert (info.engine, info.model) == ("vllm", "tiny-captioner")
    # Nothing that vLLM was started with leaks into later children of this process.
    assert {name: os.environ.get(name) for name in ("LD_PRELOAD", "OMP_NUM_THREADS", "CAPRL_ENGINE_MARK")} == {
        name: before.get(name) for name in ("LD_PRELOAD", "OMP_NUM_THREADS", "CAPRL_ENGINE_MARK")
    }
    yield engine
    processes = engine.process_ids
    await engine.close()
    await engine.close()
    assert not any(psutil.pid_exists(number) for number in processes)


@pytest.mark.asyncio(loop_scope="module")
async def test_vllm_and_transformers_agree_token_for_token(
    engine: VllmEngine, tiny_model: Path, tiny_recipe: ModelRecipe, draw: Callable
) -> None:
    assert isinstance(engine, Engine)
    other = TransformersEngine(tiny_recipe, EngineExecution(kind="transformers", model_path=str(tiny_model)))
    await other.start()
    pictures = [draw(n, 140 + 28 * n, 112) for n in range(6)]
    ours = await asyncio.gather(*(engine.generate(greedy(n, picture)) for n, picture in enumerate(pictures)))
    theirs = await asyncio.gather(*(other.generate(greedy(n, picture)) for n, picture in enumerate(pictures)))
    await other.close()
    assert [reply.token_ids for reply in ours] == [reply.token_ids for reply in theirs]
    assert [(reply.text, reply.finish_reason) for reply in ours] == [
        (reply.text, reply.finish_reason) for reply in theirs
    ]
    assert [reply.prompt_tokens for reply in ours] == [reply.prompt_tokens for reply in theirs]
    assert len({reply.text for reply in ours}) > 1


@pytest.mark.asyncio(loop_scope="module")
async def test_a_seed_decides_and_captions_end_by_themselves(engine: VllmEngine, draw: Callable) -> None:
    def ask(name: str, seed: int) -> Request:
        return Request(f"seed/{name}", ASK, Sampling(seed=seed, max_tokens=60), (draw(1),))

    one, same, other = [await engine.generate(request) for request in (ask("a", 1), ask("b", 1), ask("c", 2))]
    assert one.text == same.text != other.text
    replies = await asyncio.gather(*(engine.generate(ask(f"n{n}", n)) for n in range(10, 30)))
    assert {reply.finish_reason for reply in replies} == {"stop", "length"}
    assert all(reply.text.strip() and "<|" not in reply.text for reply in replies)


@pytest.mark.asyncio(loop_scope="module")
async def test_seeded_prompts_that_overfill_a_step_do_not_kill_a_cpu_engine(engine: VllmEngine, draw: Callable) -> None:
    # 16 prompts of about 340 tokens against the 2,048 a step takes: vLLM would cut one of them into chunks.
    requests = [Request(f"large/{n}", ASK, Sampling(seed=n, max_tokens=8), (draw(n, 560, 420),)) for n in range(64)]
    replies = await asyncio.gather(*(engine.generate(request) for request in requests))
    assert all(reply.prompt_tokens > 300 for reply in replies)


@pytest.mark.asyncio(loop_scope="module")
async def test_what_the_model_cannot_take_fails_alone(engine: VllmEngine, draw: Callable) -> None:
    bad = [
        Request("long", "word " * 4000, Sampling(max_tokens=5)),
        Request("two pictures", ASK, Sampling(max_tokens=5), (draw(1), draw(2))),
        Request("aspect", ASK, Sampling(max_tokens=5), (draw(1, 28 * 250, 60),)),
    ]
    results = await asyncio.gather(
        *(engine.generate(request) for request in [*bad, greedy(1, draw(1))]), return_exceptions=True
    )
    assert [getattr(result, "reason", None) for result in results[:2]] == [Reason.REQUEST_REFUSED] * 2
    assert all(isinstance(result, SampleFailedError) or result.text for result in results)
    assert results[-1].text  # type: ignore[union-attr]


@pytest.mark.asyncio(loop_scope="module")
async def test_a_cancelled_request_leaves_the_engine_free(engine: VllmEngine, draw: Callable) -> None:
    long = [asyncio.create_task(engine.generate(greedy(n, draw(n), 1800))) for n in range(16)]
    await asyncio.sleep(0.3)
    for task in long:
        task.cancel()
    results = await asyncio.gather(*long, return_exceptions=True)
    assert any(isinstance(result, asyncio.CancelledError) for result in results)
    assert (await engine.generate(greedy(1, draw(1)))).text


@pytest.mark.asyncio(loop_scope="module")
async def test_a_killed_core_is_a_dead_engine(engine: VllmEngine, draw: Callable) -> None:
    """The last test of the module's engine."""
    asked = [asyncio.create_task(engine.generate(greedy(n, draw(n), 1800))) for n in range(8)]
    await asyncio.sleep(0.3)
    os.kill(engine.process_ids[0], signal.SIGKILL)
    results = await asyncio.gather(*asked, return_exceptions=True)
    assert EngineDeadError in {type(result) for result in results}
    assert not any(isinstance(result, SampleFailedError) for result in results)
    with pytest.raises(EngineDeadError):
        await engine.generate(greedy(1, draw(1)))


async def test_a_folder_without_a_model_is_named(tmp_path: Path, tiny_recipe: ModelRecipe) -> None:
    engine = VllmEngine(tiny_recipe, EngineExecution(kind="vllm", model_path=str(tmp_path / "absent")))
    with pytest.raises(BadInputError, match="absent"):
        await engine.start()


def family(name: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("FAMILY") == name and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found


def core_of(name: str) -> list[psutil.Process]:
    found = []
    for process in family(name):
        with contextlib.suppress(psutil.Error):
            if any("spawn_main" in word for word in process.cmdline()):
                found.append(process)
    return found


@pytest.mark.parametrize(
    ("how", "when"),
    [(signal.SIGKILL, "answering"), (signal.SIGTERM, "loading"), (signal.SIGINT, "answering")],
    ids=lambda value: getattr(value, "name", value),
)
def test_a_killed_process_leaves_no_engine_behind(how: signal.Signals, when: str, tiny_model: Path) -> None:
    name = uuid.uuid4().hex
    with subprocess.Popen(
        [sys.executable, str(SCRIPT), str(tiny_model)],
        env=os.environ | {"FAMILY": name},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as script:
        try:
            if when == "answering":
                assert script.stdout is not None
                assert script.stdout.readline() == "answering\n"
            else:
                while not core_of(name):
                    assert script.poll() is None
                    time.sleep(0.1)
            assert len(family(name)) >= 3  # the script, its reaper, the engine core
            script.send_signal(how)
            script.wait(60)
            deadline = time.monotonic() + 60
            while family(name) and time.monotonic() < deadline:
                time.sleep(0.1)
            assert family(name) == []
        finally:
            for process in family(name):
                process.kill()
