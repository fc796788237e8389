"""The engine of machines without vLLM, with a real (tiny) model."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from caprl_core.data.reasons import Reason
from caprl_core.engines.protocol import Engine, Request, Sampling
from caprl_core.engines.transformers import TransformersEngine
from caprl_core.errors import BadInputError, EngineDeadError, SampleFailedError
from caprl_core.recipe.models import EngineExecution, ModelRecipe

pytestmark = pytest.mark.asyncio(loop_scope="module")
ASK = "Please describe this image in detail."


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine(tiny_model: Path, tiny_recipe: ModelRecipe) -> AsyncIterator[TransformersEngine]:
    engine = TransformersEngine(tiny_recipe, EngineExecution(kind="transformers", model_path=str(tiny_model)))
    info = await engine.start()
    assert (info.engine, info.model) == ("transformers", "tiny-captioner")
    yield engine
    await engine.close()
    await engine.close()


async def test_a_reply_says_how_it_ended(engine: TransformersEngine, draw: Callable) -> None:
    assert isinstance(engine, Engine)
    replies = await asyncio.gather(
        *(engine.generate(Request(f"{n}", ASK, Sampling(seed=n, max_tokens=60), (draw(n),))) for n in range(12))
    )
    assert {reply.finish_reason for reply in replies} == {"stop", "length"}
    for reply in replies:
        assert reply.token_ids is not None
        assert len(reply.token_ids) == reply.completion_tokens <= 60
        assert (reply.completion_tokens == 60) == (reply.finish_reason == "length")
        assert reply.prompt_tokens > 35  # 7 x 5 visual tokens and the text
        assert "<|" not in reply.text
        assert reply.text.strip()


async def test_neighbours_in_a_batch_change_nothing(engine: TransformersEngine, draw: Callable) -> None:
    requests = [
        Request("greedy", ASK, Sampling(temperature=0, max_tokens=12), (draw(1),)),
        Request("sampled", ASK, Sampling(seed=5, max_tokens=30), (draw(2, 280, 84),)),
        Request("same seed", ASK, Sampling(seed=5, max_tokens=30), (draw(2, 280, 84),)),
        Request("other seed", ASK, Sampling(seed=6, max_tokens=30), (draw(2, 280, 84),)),
        Request("text only", "Say something.", Sampling(seed=7, top_k=5, top_p=0.9, max_tokens=20)),
        Request("with system", ASK, Sampling(seed=8, repetition_penalty=1.3, max_tokens=20), (draw(3),), "Be brief."),
    ]
    together = await asyncio.gather(*(engine.generate(request) for request in requests))
    alone = [await engine.generate(request) for request in requests]
    assert [reply.token_ids for reply in together] == [reply.token_ids for reply in alone]
    assert together[1].text == together[2].text != together[3].text


async def test_a_stop_text_ends_the_reply_and_is_left_out(engine: TransformersEngine, draw: Callable) -> None:
    whole = await engine.generate(Request("a", ASK, Sampling(temperature=0, max_tokens=20), (draw(1),)))
    stop = " " + whole.text.split()[3]
    cut = await engine.generate(Request("b", ASK, Sampling(temperature=0, max_tokens=20, stop=(stop,)), (draw(1),)))
    assert cut.text == whole.text[: whole.text.index(stop)]
    assert cut.finish_reason == "stop"
    assert cut.completion_tokens < whole.completion_tokens


async def test_a_request_the_model_cannot_take_fails_alone(engine: TransformersEngine, draw: Callable) -> None:
    good = Request("good", ASK, Sampling(seed=1, max_tokens=10), (draw(1),))
    bad = Request("bad", "word " * 5000, Sampling(max_tokens=10))
    results = await asyncio.gather(*(engine.generate(r) for r in (good, bad, good)), return_exceptions=True)
    assert isinstance(results[1], SampleFailedError)
    assert results[1].reason == Reason.REQUEST_REFUSED
    assert results[0].text == results[2].text  # type: ignore[union-attr]


async def test_a_cancelled_request_makes_room(engine: TransformersEngine, draw: Callable) -> None:
    long = [
        asyncio.create_task(engine.generate(Request(f"{n}", ASK, Sampling(seed=n, max_tokens=3000), (draw(n),))))
        for n in range(3)
    ]
    await asyncio.sleep(0.2)
    for task in long:
        task.cancel()
    reply = await engine.generate(Request("next", ASK, Sampling(seed=1, max_tokens=5), (draw(1),)))
    assert reply.completion_tokens <= 5


async def test_a_closed_engine_leaves_nobody_waiting(
    tiny_model: Path, tiny_recipe: ModelRecipe, draw: Callable
) -> None:
    engine = TransformersEngine(tiny_recipe, EngineExecution(kind="transformers", model_path=str(tiny_model)))
    await engine.start()
    waiting = [
        asyncio.create_task(engine.generate(Request(f"{n}", ASK, Sampling(seed=n, max_tokens=3000), (draw(n),))))
        for n in range(20)
    ]
    await asyncio.sleep(0.3)
    await engine.close()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    # Also those in the making: a reply cut short by the closing is not the model's.
    assert {type(result) for result in results} == {EngineDeadError}
    with pytest.raises(EngineDeadError):
        await engine.generate(Request("late", ASK, Sampling()))


async def test_a_folder_without_a_model_is_named(tmp_path: Path, tiny_recipe: ModelRecipe) -> None:
    for path in (tmp_path / "absent", tmp_path):
        engine = TransformersEngine(tiny_recipe, EngineExecution(kind="transformers", model_path=str(path)))
        with pytest.raises(BadInputError, match=str(path)):
            await engine.start()
