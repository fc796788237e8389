"""The scripted server is a fair partner: it sees pictures, reads options itself, and knows its own funnel."""

import base64
import io
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import httpx
import openai
import pytest
from openai import OpenAI
from PIL import Image

from caprl_core.data.images import prepare_image
from caprl_core.data.reasons import Reason
from caprl_core.engines.openai import OpenAIEngine
from caprl_core.engines.protocol import Request, Sampling
from caprl_core.qa.reasons import QuestionReason
from caprl_core.recipe.models import EngineExecution, ImageRecipe, ModelRecipe
from support.scripted_answers import tokens
from support.scripted_blocks import REFUSAL
from support.scripted_funnel import REJECTED, expected_funnel
from support.scripted_images import (
    Behaviour,
    Kind,
    ScriptedImage,
    ScriptedQuestion,
    Style,
    corpus_of_pictures,
    number_in,
)
from support.scripted_qa import ANSWERER, WRITER, ScriptedQa, scripted_images, scripted_qa

COLOUR = ScriptedQuestion("What colour is the boat?", ("red", "green", "blue", "white"), 2)


def question(behaviour: str, stem: str = "What colour is the boat?") -> ScriptedQuestion:
    return ScriptedQuestion(stem, COLOUR.options, COLOUR.gold, behaviour)  # type: ignore[arg-type]


def picture(folder: Path, image: ScriptedImage) -> str:
    """The data URL of a picture as our engine sends it: prepared, PNG."""
    corpus_of_pictures(folder, [image])
    prepared = prepare_image((folder / image.file_name).read_bytes(), ImageRecipe())
    return "data:image/png;base64," + base64.b64encode(prepared.encoded).decode()


class Asking:
    """A client that never retries by itself."""

    def __init__(self, server: ScriptedQa, folder: Path) -> None:
        self.client = OpenAI(base_url=server.url, api_key="none", max_retries=0)
        self.urls = {number: picture(folder, image) for number, image in server.images.items()}

    def __call__(self, model: str, text: str, image: int | None = None, max_tokens: int = 16, **more: object) -> str:
        choice = self.completion(model, text, image, max_tokens=max_tokens, **more).choices[0]
        return choice.message.content

    def completion(self, model: str, text: str, image: int | None, **more: object):
        parts = [{"type": "text", "text": text}]
        if image is not None:
            parts.insert(0, {"type": "image_url", "image_url": {"url": self.urls[image]}})
        return self.client.chat.completions.create(model=model, messages=[{"role": "user", "content": parts}], **more)


@pytest.fixture
def one(tmp_path: Path) -> Iterator[tuple[ScriptedQa, Asking]]:
    """A server with one picture for each behaviour of the answerer."""
    behaviours = ("needs_image", "leaky", "too_hard", "letter_biased", "mumbles", "fails", "flaky")
    images = [
        ScriptedImage(number, (question(name, f"What colour is boat {number}?"),))
        for number, name in enumerate(behaviours)
    ]
    with ScriptedQa(images) as server:
        yield server, Asking(server, tmp_path)


def shown(number: int, order: str = "ABCD", extra: str | None = None) -> str:
    texts = [COLOUR.options["ABCD".index(letter)] for letter in order] + ([extra] if extra else [])
    lines = [f"{letter}) {text}" for letter, text in zip("ABCDE", texts, strict=False)]
    return f"What colour is boat {number}?\n" + "\n".join(lines) + "\nAnswer with one letter."


def means(reply: str, letter: str, text: str) -> bool:
    """Whether a person would take the reply for this option."""
    words = [token.strip() for token in tokens(reply)]
    return letter in words or letter.lower() in words or text in reply


@pytest.mark.parametrize("number", [0, 1, 2, 85, 170, 254, 255])
def test_the_number_in_the_pixels_survives_preparation(number: int, tmp_path: Path) -> None:
    url = picture(tmp_path, ScriptedImage(number))
    assert number_in(base64.b64decode(url.partition(",")[2])) == number


def test_other_pictures_have_no_number() -> None:
    out = io.BytesIO()
    Image.new("RGB", (84, 84), "red").save(out, "PNG")
    assert number_in(out.getvalue()) is None
    assert number_in(b"no picture") is None


def test_gold_is_found_wherever_it_stands_and_only_with_the_image(one: tuple[ScriptedQa, Asking]) -> None:
    server, ask = one
    for order in ("ABCD", "CABD", "DCBA", "BDAC"):
        gold = "ABCD"[order.index("C")]
        for seed in range(6):  # the wording differs from request to request
            seen = ask(ANSWERER, shown(0, order, "None of the above"), 0, seed=seed)
            blind = ask(ANSWERER, shown(0, order), seed=seed)
            assert means(seen, gold, "blue") and not means(blind, gold, "blue"), (seen, blind)
    assert [asked.order for asked in server.asked[-2:]] == ["BDAC-", "BDAC"]
    assert {asked.role for asked in server.asked} == {"answerer"}


def test_each_behaviour_is_played(one: tuple[ScriptedQa, Asking]) -> None:
    _, ask = one
    assert means(ask(ANSWERER, shown(1)), "C", "blue")
    assert not means(ask(ANSWERER, shown(2), 2), "C", "blue")
    assert means(ask(ANSWERER, shown(3, "CABD"), 3), "A", "blue")
    mumbled = ask(ANSWERER, shown(4), 4)
    assert not any(means(mumbled, letter, text) for letter, text in zip("ABCD", COLOUR.options, strict=True))
    for _ in range(3):
        with pytest.raises(openai.InternalServerError):
            ask(ANSWERER, shown(5), 5)
    with pytest.raises((openai.RateLimitError, openai.InternalServerError)):
        ask(ANSWERER, shown(6), 6)
    assert means(ask(ANSWERER, shown(6), 6), "C", "blue")


def test_a_question_put_with_another_picture_is_noticed(one: tuple[ScriptedQa, Asking]) -> None:
    server, ask = one
    ask(ANSWERER, shown(0), 1)
    assert server.asked[-1].role == "puzzled"


def test_a_request_asked_again_is_noticed(one: tuple[ScriptedQa, Asking]) -> None:
    server, ask = one
    ask(ANSWERER, shown(0), 0, seed=1)
    ask(ANSWERER, shown(0), 0, seed=2)
    assert server.answered_twice() == []
    ask(ANSWERER, shown(0), 0, seed=1)
    assert [again.stem for again in server.answered_twice()] == ["What colour is boat 0?"]


def test_log_probabilities_of_the_letters_offered(one: tuple[ScriptedQa, Asking]) -> None:
    _, ask = one
    completion = ask.completion(ANSWERER, shown(0), 0, max_tokens=1, logprobs=True, top_logprobs=20)
    assert completion.choices[0].message.content == "C"
    top = {entry.token: entry.logprob for entry in completion.choices[0].logprobs.content[0].top_logprobs}
    assert set(top) == set("ABCD") and max(top, key=top.get) == "C"


async def test_our_engine_is_answered_in_spite_of_faults(tmp_path: Path) -> None:
    image = ScriptedImage(9, (COLOUR,))
    with scripted_qa(tmp_path, [image], too_many=0.5, broken=0.5) as server:
        engine = OpenAIEngine(
            ModelRecipe(name=WRITER), EngineExecution(kind="openai", urls=(server.url,), retries=1), ready_s=5
        )
        info = await engine.start()
        prepared = prepare_image((tmp_path / image.file_name).read_bytes(), ImageRecipe())
        reply = await engine.generate(Request("a", "Ask about this image.", Sampling(), images=(prepared,)))
        await engine.close()
    assert info.model == WRITER and reply.finish_reason == "stop"
    assert "**What colour is the boat?**" in reply.text and "**Answer:** C) blue" in reply.text
    assert [asked.status for asked in server.asked if asked.role == "writer"] in ([429, 200], [500, 200])


def test_the_writer_refuses_once_for_each_attempt_it_should(tmp_path: Path) -> None:
    images = [ScriptedImage(0, (COLOUR,), kind="refusal_once"), ScriptedImage(1, kind="refusal")]
    with ScriptedQa(images) as server:
        ask = Asking(server, tmp_path)
        attempts = [[ask(WRITER, "Ask.", number, seed=seed) for seed in (1, 2, 1)] for number in (0, 1)]
    assert attempts[1] == [REFUSAL] * 3
    assert attempts[0][0] == attempts[0][2] == REFUSAL and "boat" in attempts[0][1]


def test_a_cut_block_says_so(tmp_path: Path) -> None:
    last = ScriptedQuestion("How many sails?", ("one", "two", "three", "four"), 0, fault=QuestionReason.CUT)
    with ScriptedQa([ScriptedImage(0, (COLOUR, last))]) as server:
        choice = Asking(server, tmp_path).completion(WRITER, "Ask.", 0, max_tokens=2048).choices[0]
    assert choice.finish_reason == "length"
    assert choice.message.content.count("**Answer:**") == 1


def test_the_script_covers_every_kind_and_reason(tmp_path: Path) -> None:
    images = scripted_images()
    funnel = expected_funnel(images, max_questions=6)
    assert len(images) >= 24 and funnel.images == funnel.blocks + sum(funnel.rejected.values())
    assert set(funnel.rejected) == set(REJECTED.values()) >= {Reason.REFUSED, Reason.EMPTY}
    extraction = list(QuestionReason)[: list(QuestionReason).index(QuestionReason.UNANSWERED)]
    assert set(funnel.refused) == set(extraction)
    ends = (funnel.kept, funnel.visual_too_low, funnel.text_too_high, funnel.unanswered)
    assert sum(ends) == funnel.questions and min(ends) > 0 and funnel.without_questions > 0
    behaviours = {question.behaviour for image in images for question in image.usable}
    assert behaviours == set(get_args(Behaviour))
    assert {image.kind for image in images} == set(get_args(Kind))
    assert {image.style for image in images} == set(get_args(Style))


def test_the_funnel_of_a_small_script_by_hand() -> None:
    images = [
        ScriptedImage(0, (COLOUR, question("leaky", "b?"), question("letter_biased", "c?"), question("fails", "d?"))),
        ScriptedImage(1, kind="refusal"),
        ScriptedImage(2, kind="chatter"),
    ]
    funnel = expected_funnel(images)
    assert (funnel.images, funnel.blocks, funnel.questions, funnel.without_questions) == (3, 2, 4, 1)
    assert (funnel.kept, funnel.visual_too_low, funnel.text_too_high, funnel.unanswered) == (1, 1, 1, 1)
    assert funnel.accuracies["c?"] == (0.25, 0.25)
    assert funnel.refused == Counter({QuestionReason.UNREADABLE: 1}) and funnel.rejected == Counter({Reason.REFUSED: 1})
    assert expected_funnel(images, visual_above=0.2, text_below=0.25, text_inclusive=True).kept == 2
    with pytest.raises(ValueError, match="rotations"):
        expected_funnel(images, rotations=3)


def test_models_are_listed_and_unknown_ones_refused(tmp_path: Path) -> None:
    with scripted_qa(tmp_path / "pictures") as server:
        names = {model["id"] for model in httpx.get(f"{server.url}/models").json()["data"]}
        assert names == {WRITER, ANSWERER}
        body = {"model": "other", "messages": [{"role": "user", "content": "Hello"}]}
        assert httpx.post(f"{server.url}/chat/completions", json=body).status_code == 404
        assert len(list((tmp_path / "pictures").iterdir())) == server.expected_funnel().images
