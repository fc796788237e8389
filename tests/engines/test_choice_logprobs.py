"""Log-probabilities of a few texts as the first token: from the model in both libraries, and from a server's list."""

import asyncio
import importlib.util
import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caprl_core.engines.choice_logprobs import ChoiceTokens, reported
from caprl_core.engines.openai import OpenAIEngine
from caprl_core.engines.protocol import Engine, Reply, Request, Sampling
from caprl_core.engines.transformers import TransformersEngine
from caprl_core.engines.vllm import VllmEngine
from caprl_core.recipe.models import EngineExecution, ModelRecipe
from caprl_core.world.stub_server import StubServer

ASK = "Which of these words describes the picture?"
# Words of the tiny model's vocabulary, a letter it never says, and a word that is no single token.
CHOICES = ("dog", "blue", "lamp", "A", "xylophone")


def asks(draw: Callable) -> list[Request]:
    """Pictures and texts of different lengths, and sampling that must not matter."""
    return [
        Request("greedy", ASK, Sampling(temperature=0, max_tokens=1), (draw(1),), choices=CHOICES),
        Request("hot", ASK, Sampling(temperature=2.0, top_k=3, max_tokens=1, seed=1), (draw(1),), choices=CHOICES),
        Request(
            "penalised", f"{ASK} dog, blue", Sampling(repetition_penalty=1.5, max_tokens=1, seed=2), choices=CHOICES
        ),
        Request("wide", ASK, Sampling(max_tokens=1, seed=3), (draw(2, 280, 84),), choices=CHOICES[::-1]),
        Request("no choices", ASK, Sampling(max_tokens=4, seed=4), (draw(3),)),
    ]


async def answers(engine: Engine, requests: list[Request]) -> list[Reply]:
    await engine.start()
    try:
        return await asyncio.gather(*(engine.generate(request) for request in requests))
    finally:
        await engine.close()


def by_hand(tiny_model: Path, request: Request) -> dict[str, float]:
    """What the network itself says, with nothing of ours in between."""
    import torch  # noqa: PLC0415
    import transformers  # noqa: PLC0415

    processor = transformers.AutoProcessor.from_pretrained(tiny_model)
    network = transformers.AutoModelForImageTextToText.from_pretrained(tiny_model, dtype="float32").eval()
    messages = [{"role": "user", "content": [{"type": "text", "text": request.text}]}]
    prompt = processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    inputs = processor(text=[prompt], return_tensors="pt")
    with torch.inference_mode():
        last = network(**inputs).logits[0, -1].log_softmax(0)
    vocabulary = processor.tokenizer.get_vocab()
    return {word: float(last[vocabulary["\u0120" + word]]) for word in ("dog", "blue", "lamp")}


@pytest.fixture(scope="module")
def transformers_replies(tiny_model: Path, tiny_recipe: ModelRecipe, draw: Callable) -> list[Reply]:
    engine = TransformersEngine(tiny_recipe, EngineExecution(kind="transformers", model_path=str(tiny_model)))
    return asyncio.run(answers(engine, asks(draw)))


def test_transformers_reports_the_networks_own_probabilities(
    transformers_replies: list[Reply], tiny_model: Path, draw: Callable
) -> None:
    greedy, hot, penalised, wide, without = (reply.choice_logprobs for reply in transformers_replies)
    assert penalised is not None
    expected = by_hand(tiny_model, asks(draw)[2])
    assert dict(zip(CHOICES, penalised, strict=True)) == {
        **{word: pytest.approx(value, abs=1e-3) for word, value in expected.items()},
        "A": pytest.approx(penalised[3], abs=1e-3),
        "xylophone": None,
    }
    assert greedy == pytest.approx(hot, abs=1e-4)
    assert wide is not None
    assert wide[0] is None
    assert all(value is not None for value in wide[1:])
    assert without is None
    assert [reply.completion_tokens for reply in transformers_replies][:4] == [1] * 4
    # A letter the model never says is far less probable than a word, and is reported all the same.
    assert greedy[3] is not None
    assert greedy[3] < min(greedy[:3]) - 15


@pytest.mark.vllm
@pytest.mark.xdist_group("vllm")
@pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed")
def test_vllm_and_transformers_agree(
    transformers_replies: list[Reply], tiny_model: Path, tiny_recipe: ModelRecipe, draw: Callable
) -> None:
    settings = EngineExecution(kind="vllm", model_path=str(tiny_model), concurrency=8, max_model_len=2048)
    replies = asyncio.run(answers(VllmEngine(tiny_recipe, settings), asks(draw)))
    for ours, theirs in zip(replies, transformers_replies, strict=True):
        assert ours.choice_logprobs == pytest.approx(theirs.choice_logprobs, abs=1e-3)
    assert replies[0].choice_logprobs != replies[3].choice_logprobs


async def test_a_server_is_asked_for_its_likeliest_tokens(openai_settings: Callable) -> None:
    async with StubServer() as server:
        engine = OpenAIEngine(ModelRecipe(name="lab/answerer"), openai_settings(server.url), ready_s=3.0)
        try:
            scored = await engine.generate(Request("a", ASK, Sampling(max_tokens=1, seed=1), choices=("A", "C", "Z")))
            plain = await engine.generate(Request("b", ASK, Sampling(max_tokens=1, seed=1)))
        finally:
            await engine.close()
        assert scored.choice_logprobs is not None
        assert scored.choice_logprobs[2] is None
        assert 0 < sum(math.exp(value) for value in scored.choice_logprobs[:2] if value is not None) < 1
        assert plain.choice_logprobs is None
        with_choices, without = server.requests
        assert (with_choices["logprobs"], with_choices["top_logprobs"]) == (True, 20)
        assert not {"logprobs", "top_logprobs"} & set(without)


def test_tokens_with_and_without_a_space_are_added_up() -> None:
    tokens = ChoiceTokens({"C": 3, "\u0120C": 7, "\u2581D": 9, "CD": 11})
    assert (tokens.ids("C"), tokens.ids("D"), tokens.ids("E")) == ((3, 7), (9,), ())
    assert tokens.all_ids("CDC") == [3, 7, 9]
    by_token = {3: math.log(0.25), 7: math.log(0.5), 11: 0.0}
    assert tokens.logprobs("CDE", by_token) == (pytest.approx(math.log(0.75)), None, None)
    assert tokens.logprobs("C", {3: -math.inf}) == (None,)


def entry(token: object, logprob: object, top: object = ()) -> SimpleNamespace:
    return SimpleNamespace(token=token, logprob=logprob, top_logprobs=top)


def test_a_servers_list_is_read_by_text() -> None:
    top = [entry("C", math.log(0.5)), entry(" C", math.log(0.25)), entry("\u0120D", -3.0), entry("Cat", -0.1)]
    # The token drawn stands in the list once more; only the first step counts.
    logprobs = SimpleNamespace(content=[entry("C", math.log(0.5), top), entry("A", 0.0, [])])
    assert reported(logprobs, "ACD") == (None, pytest.approx(math.log(0.75)), -3.0)
    assert reported(None, "ACD") is None
    assert reported(SimpleNamespace(content=[]), "ACD") is None


ODD = st.one_of(
    st.none(), st.text(max_size=3), st.integers(), st.just(10**400), st.floats(), st.booleans(), st.lists(st.text())
)
ENTRIES = st.lists(st.builds(entry, ODD, ODD, ODD), max_size=5)


@given(st.one_of(ODD, st.builds(lambda *parts: SimpleNamespace(content=[entry(*parts)]), ODD, ODD, ENTRIES | ODD)))
def test_whatever_a_server_sends_is_read_or_passed_over(logprobs: object) -> None:
    values = reported(logprobs, "ABC")
    assert values is None or (len(values) == 3 and all(value is None or math.isfinite(value) for value in values))


def test_the_log_of_a_long_list_is_bounded() -> None:
    logprobs = SimpleNamespace(content=[entry("A", -1.0, [entry(" A", -1.0)] * 10**6 + [entry("B", 0.0)])])
    assert reported(logprobs, "AB") == (pytest.approx(math.log(2) - 1), None)
