"""The engine behind HTTP, against a real HTTP server that misbehaves to order."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from caprl_core.data.reasons import Reason
from caprl_core.engines.openai import OpenAIEngine
from caprl_core.engines.protocol import Engine, Request, Sampling
from caprl_core.errors import BadInputError, EngineDeadError, SampleFailedError
from caprl_core.recipe.models import EngineExecution, ModelRecipe
from caprl_core.world.stub_server import StubBehaviour, StubServer

MODEL = ModelRecipe(name="lab/captioner", revision="abc")


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("caprl_core.engines.openai.FIRST_PAUSE_S", 0.02)


@asynccontextmanager
async def opened(execution: EngineExecution) -> AsyncIterator[OpenAIEngine]:
    engine = OpenAIEngine(MODEL, execution, ready_s=3.0)
    try:
        yield engine
    finally:
        await engine.close()


def ask(number: int = 0, text: str = "Please describe this image.", **sampling) -> Request:
    return Request(f"r/{number}", text, Sampling(**({"seed": number} | sampling)))


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


async def test_a_reply_carries_text_reason_and_counts(openai_settings: Callable) -> None:
    async with StubServer() as server, opened(openai_settings(server.url)) as engine:
        assert isinstance(engine, Engine)
        assert engine.concurrency == 16
        info = await engine.start()
        assert (info.engine, info.engine_version) == ("openai", "stub 1")
        assert (info.model, info.model_revision) == ("lab/captioner", "abc")
        whole = await engine.generate(ask(max_tokens=1000))
        assert (whole.finish_reason, whole.completion_tokens) == ("stop", len(whole.text.split()))
        cut = await engine.generate(ask(max_tokens=3))
        assert (cut.finish_reason, cut.completion_tokens, len(cut.text.split())) == ("length", 3, 3)


async def test_the_image_and_every_sampling_field_are_sent(openai_settings: Callable, draw: Callable) -> None:
    async with StubServer() as server, opened(openai_settings(server.url, extra={"min_p": None, "n": 1})) as engine:
        sampling = Sampling(0.5, 0.9, -1, 1.0, 77, 42, ("END",))
        await engine.generate(Request("r", "Describe.", sampling, (draw(1),), "Be brief."))
        (body,) = server.requests
        assert [message["role"] for message in body["messages"]] == ["system", "user"]
        image, text = body["messages"][1]["content"]
        assert image["image_url"]["url"].startswith("data:image/png;base64,iVBOR")
        assert text == {"type": "text", "text": "Describe."}
        # Also the fields that change nothing: a server's own defaults must not slip in.
        sent = {"temperature": 0.5, "top_p": 0.9, "top_k": -1, "repetition_penalty": 1.0, "seed": 42, "stop": ["END"]}
        assert sent.items() <= body.items()
        assert (body["model"], body["max_tokens"], body["n"]) == ("stub", 77, 1)
        assert "min_p" not in body


@pytest.mark.parametrize("fault", ["429", "500", "503", "cut", "abort", "null", "empty"])
async def test_a_passing_fault_is_retried(openai_settings: Callable, fault: str) -> None:
    behaviour = StubBehaviour(script=[fault, "ok", fault, "ok"])
    async with StubServer(behaviour) as server, opened(openai_settings(server.url)) as engine:
        first, second = await engine.generate(ask(1)), await engine.generate(ask(1))
        assert first.text == second.text
        assert first.finish_reason == "stop"
        assert len(server.requests) == 4


async def test_a_request_without_answer_times_out_and_is_retried(openai_settings: Callable) -> None:
    behaviour = StubBehaviour(script=["hang"])
    async with StubServer(behaviour) as server, opened(openai_settings(server.url, timeout_s=0.3)) as engine:
        assert (await engine.generate(ask())).text
        assert len(server.requests) == 2


async def test_a_refused_request_fails_at_once_and_alone(openai_settings: Callable) -> None:
    async with StubServer(StubBehaviour(script=["400"])) as server, opened(openai_settings(server.url)) as engine:
        with pytest.raises(SampleFailedError, match="HTTP 400") as caught:
            await engine.generate(ask())
        assert caught.value.reason == Reason.REQUEST_REFUSED
        assert len(server.requests) == 1
        assert (await engine.generate(ask())).text


async def test_a_request_that_always_fails_is_to_blame_even_when_it_is_alone(openai_settings: Callable) -> None:
    behaviour = StubBehaviour(poison="cursed")
    async with StubServer(behaviour) as server, opened(openai_settings(server.url, retries=2)) as engine:
        with pytest.raises(SampleFailedError, match="3 attempts") as caught:
            await engine.generate(ask(text="a cursed picture"))
        assert caught.value.reason == Reason.REQUEST_FAILED
        # Nobody else had been answered, so the engine asked for one token to see whether the server lives.
        assert [body["max_tokens"] for body in server.requests].count(1) == 1
        assert (await engine.generate(ask())).text


async def test_a_server_that_answers_nobody_is_dead(openai_settings: Callable) -> None:
    behaviour = StubBehaviour(rates={"500": 1.0})
    async with StubServer(behaviour) as server, opened(openai_settings(server.url)) as engine:
        results = await asyncio.gather(*(engine.generate(ask(n)) for n in range(8)), return_exceptions=True)
        assert {type(result) for result in results} == {EngineDeadError}
        asked = len(server.requests)
        with pytest.raises(EngineDeadError, match="HTTP 500"):
            await engine.generate(ask(99))
        assert len(server.requests) == asked


async def test_no_server_at_all_is_a_dead_engine(openai_settings: Callable) -> None:
    async with opened(openai_settings(f"http://127.0.0.1:{free_port()}/v1")) as engine:
        with pytest.raises(EngineDeadError, match="no connection"):
            await engine.generate(ask())


async def test_a_server_that_restarts_in_time_costs_no_sample(openai_settings: Callable) -> None:
    server = StubServer()
    async with server:
        url = server.url
    # More failures than retries: attempts that found no server are not the request's.
    async with opened(openai_settings(url, retries=0, dead_after_s=30.0)) as engine:
        waiting = [asyncio.create_task(engine.generate(ask(n))) for n in range(4)]
        await asyncio.sleep(0.3)
        assert not any(task.done() for task in waiting)
        async with server:
            replies = await asyncio.gather(*waiting)
    assert all(reply.text for reply in replies)


@pytest.mark.parametrize(
    ("behaviour", "text"),
    [(StubBehaviour(api_key="right"), "API key"), (StubBehaviour(model="other"), "served_name")],
    ids=["wrong key", "wrong model"],
)
async def test_wrong_settings_are_named_at_the_start_and_kill_the_engine_later(
    openai_settings: Callable, behaviour: StubBehaviour, text: str
) -> None:
    async with StubServer(behaviour) as server, opened(openai_settings(server.url)) as engine:
        with pytest.raises(BadInputError, match=text):
            await engine.start()
        with pytest.raises(EngineDeadError, match=text):
            await engine.generate(ask())


async def test_the_key_comes_from_the_named_variable(
    openai_settings: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", "right")
    async with (
        StubServer(StubBehaviour(api_key="right")) as server,
        opened(openai_settings(server.url, api_key_env="MY_KEY")) as engine,
    ):
        assert (await engine.start()).engine_version == "stub 1"


async def test_the_start_waits_for_a_server_that_loads(openai_settings: Callable) -> None:
    async with StubServer(StubBehaviour(loading_s=0.8)) as server, opened(openai_settings(server.url)) as engine:
        assert (await engine.start()).engine == "openai"


async def test_the_start_gives_up_on_a_server_that_never_gets_ready(openai_settings: Callable) -> None:
    async with StubServer(StubBehaviour(loading_s=60)) as server:
        engine = OpenAIEngine(MODEL, openai_settings(server.url), ready_s=0.5)
        with pytest.raises(EngineDeadError, match="Loading model"):
            await engine.start()
        await engine.close()


async def test_servers_share_the_load(openai_settings: Callable) -> None:
    slow = StubBehaviour(median_s=0.05)
    async with (
        StubServer(slow) as one,
        StubServer(slow) as two,
        opened(openai_settings(one.url, two.url)) as engine,
    ):
        await asyncio.gather(*(engine.generate(ask(n)) for n in range(16)))
        assert (one.most_in_flight, two.most_in_flight) == (8, 8)


async def test_a_faulty_server_leaves_its_requests_to_the_other(openai_settings: Callable) -> None:
    broken = StubBehaviour(rates={"500": 1.0})
    async with (
        StubServer(broken) as bad,
        StubServer() as good,
        opened(openai_settings(bad.url, good.url, f"http://127.0.0.1:{free_port()}/v1")) as engine,
    ):
        await engine.start()
        replies = await asyncio.gather(*(engine.generate(ask(n)) for n in range(32)))
    assert all(reply.text for reply in replies)
    assert good.replies >= 32


async def test_retry_after_rests_the_server_that_asked_for_it(openai_settings: Callable) -> None:
    busy = StubBehaviour(rates={"429": 1.0}, retry_after_s=60)
    async with StubServer(busy) as full, StubServer() as free, opened(openai_settings(full.url, free.url)) as engine:
        await asyncio.gather(*(engine.generate(ask(n)) for n in range(8)))
        seen = len(full.requests)
        assert 0 < seen <= 8
        await asyncio.gather(*(engine.generate(ask(n)) for n in range(8, 40)))
        assert len(full.requests) == seen


async def test_a_cancelled_request_leaves_the_server(openai_settings: Callable) -> None:
    async with (
        StubServer(StubBehaviour(script=["hang"])) as server,
        opened(openai_settings(server.url)) as engine,
    ):
        task = asyncio.create_task(engine.generate(ask()))
        while not server.in_flight:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        while server.in_flight:
            await asyncio.sleep(0.01)


async def test_faults_of_every_kind_change_no_reply(openai_settings: Callable) -> None:
    faults = {"429": 0.05, "500": 0.05, "503": 0.05, "cut": 0.05, "abort": 0.05, "hang": 0.02}
    async with StubServer(StubBehaviour()) as calm, opened(openai_settings(calm.url)) as engine:
        expected = await asyncio.gather(*(engine.generate(ask(n)) for n in range(150)))
    behaviour = StubBehaviour(median_s=0.01, sigma=1.0, rates=faults)
    patient = openai_settings("", retries=20, dead_after_s=30.0, timeout_s=1.0).model_dump()
    async with StubServer(behaviour) as stormy:
        async with opened(EngineExecution(**(patient | {"urls": (stormy.url,)}))) as engine:
            replies = await asyncio.gather(*(engine.generate(ask(n)) for n in range(150)))
        assert len(stormy.requests) > 150
    assert [reply.text for reply in replies] == [reply.text for reply in expected]


async def test_a_closed_engine_answers_nobody_and_closes_twice(openai_settings: Callable) -> None:
    async with StubServer() as server:
        engine = OpenAIEngine(MODEL, openai_settings(server.url))
        await engine.close()
        await engine.close()
        with pytest.raises(EngineDeadError, match="closed"):
            await engine.generate(ask())
