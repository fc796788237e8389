"""The question writer: what it is taught, and what the committed one writes about pictures it was never shown.

It is asked through the project's own engine, and read as the curation reads a writer.
"""

import asyncio
import hashlib
import io
import json
import random
from pathlib import Path

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from caprl_core.cli import app
from caprl_core.data.sample import PreparedImage
from caprl_core.engines.protocol import Request, Sampling
from caprl_core.engines.transformers import TransformersEngine
from caprl_core.qa.question import Question
from caprl_core.recipe.models import EngineExecution, ModelRecipe
from caprl_core.world.captions import full_caption
from caprl_core.world.drawing import draw_scene
from caprl_core.world.model_folders import FIGURES, committed_figures, committed_model
from caprl_core.world.questions import KINDS, OPTIONS
from caprl_core.world.scene import Scene, Thing, scenes
from caprl_core.world.training.evaluating_writer import BLOCK_TOKENS, block_figures, read_block, true_gold
from caprl_core.world.training.rebuild import rebuild
from caprl_core.world.training.saving import load_model
from caprl_core.world.training.words import Words
from caprl_core.world.training.writer import (
    OPTION_WEIGHT,
    QUESTIONS,
    block_questions,
    noted,
    option_chances,
    taught_reply,
    train_writer,
    writer_batch,
)
from caprl_core.world.vocabulary import WRITER_PROMPT, build_tokenizer

ASKED = 120
SCENE = Scene((Thing("star", "red", "at the top left"), Thing("circle", "blue", "at the middle right")))
TWINS = Scene((Thing("star", "red", "at the top left"), Thing("circle", "red", "at the middle right")))


@pytest.fixture(scope="module")
def words() -> Words:
    return Words(build_tokenizer())


# What is taught


def test_a_taught_block_is_a_block_of_true_questions(words: Words) -> None:
    known = list(scenes("train", 200, 5))
    rng = random.Random(0)
    replies = [taught_reply(words, scene, rng) for scene in known]
    texts = [words.text([token for token, _ in reply.tokens]) for reply in replies]
    figures = block_figures(texts, known)
    for name in ("whole", "true", "distinct", "caption", "stems"):
        assert figures[name] == 1.0, name
    assert figures["questions"] == QUESTIONS
    assert max(len(reply.tokens) for reply in replies) <= BLOCK_TOKENS


def test_a_block_asks_different_kinds_and_never_by_a_colour_that_comes_twice() -> None:
    rng = random.Random(0)
    met: set[str] = set()
    for _ in range(40):
        kinds = {one.kind for one in block_questions(SCENE, rng)}
        assert len(kinds) == QUESTIONS
        met |= kinds
        chosen = block_questions(TWINS, rng)
        assert len({one.question.stem for one in chosen}) == QUESTIONS
        assert "which" not in {one.kind for one in chosen}
    assert met == set(KINDS)


def test_a_note_holds_what_is_asked_and_the_answer() -> None:
    rng = random.Random(0)
    for scene in scenes("train", 40, 6):
        for one in block_questions(scene, rng):
            assert {one.subject, one.value} <= set(noted(scene, one))


def test_options_are_taught_as_what_random_ones_may_be() -> None:
    rng = random.Random(0)
    asked = block_questions(SCENE, rng)[0]
    for place, option in enumerate(asked.question.options):
        chances = option_chances(asked, place)
        assert option in chances
        assert not set(asked.question.options[:place]) & set(chances)
        assert sum(chances.values()) == pytest.approx(1)
        if asked.value in chances:
            assert chances[asked.value] == pytest.approx(1 / (len(asked.question.options) - place))


def test_chances_are_learnt_where_an_option_stands(words: Words) -> None:
    packed, pixels = writer_batch(random.Random(0), words, pictures=2)
    assert len(pixels) == 2
    letters = torch.tensor([words.of(f"\n{letter})")[0] for letter in "ABCD"])
    behind = torch.isin(packed.tokens[packed.sources[:, 0], packed.sources[:, 1]], letters)
    assert behind.sum() > 2 * QUESTIONS * OPTIONS  # several texts may stand at most places
    assert packed.weights[behind].sum().item() == pytest.approx(2 * QUESTIONS * OPTIONS * OPTION_WEIGHT, rel=1e-5)


def test_a_gold_is_held_against_the_scene_and_not_against_the_block() -> None:
    options = ("red", "blue", "green", "orange")
    assert true_gold(Question("What colour is the star?", options, 0), SCENE)
    assert not true_gold(Question("What colour is the star?", options, 1), SCENE)
    assert not true_gold(Question("What colour is the cross?", options, 0), SCENE)
    assert not true_gold(Question("Is the star red?", options, 0), SCENE)
    shapes = ("star", "circle", "cross", "square")
    assert true_gold(Question("Which shape is red?", shapes, 0), SCENE)
    assert not true_gold(Question("Which shape is red?", shapes, 0), TWINS)


def test_figures_count_what_is_wrong() -> None:
    caption = full_caption(SCENE)
    wrong = "\nNote: red star\n1. What colour is the star?\nA) red\nB) blue\nC) green\nD) orange\nAnswer: blue"
    equal = "\n2. Where is the star?\nA) at the top left\nB) red\nC) red\nD) blue\nAnswer: at the top left"
    figures = block_figures([caption + wrong + equal, "An image."], [SCENE, SCENE])
    assert (figures["whole"], figures["questions"], figures["true"], figures["caption"]) == (0.0, 0.5, 0.0, 0.5)
    assert (figures["ask_colour"], figures["gold_B"]) == (1.0, 1.0)


# Training


@pytest.mark.timeout(240)
def test_rebuilding_writes_a_writer_with_its_figures(tmp_path: Path) -> None:
    told: list[str] = []
    figures = rebuild("writer", tmp_path, steps=2, evaluated=3, tell=told.append)
    assert json.loads((tmp_path / "writer" / FIGURES).read_text()) == figures
    assert (figures["model"], figures["steps"], figures["evaluated"]) == ("writer", 2, 3)
    assert any(line.startswith("writer 0/2") for line in told)


def test_the_same_seed_trains_the_same_writer_and_it_learns() -> None:
    losses: list[float] = []
    answerer = committed_model("answerer")
    first = train_writer(3, load_model(answerer), 6, lambda _, values: losses.append(values["loss"]))
    second = train_writer(3, load_model(answerer), 6)
    assert all(torch.equal(one, other) for one, other in zip(first.parameters(), second.parameters(), strict=True))
    assert losses[-1] < losses[0] - 0.1


# The committed writer


def seen(picture: Image.Image) -> PreparedImage:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    data = buffer.getvalue()
    return PreparedImage(
        original=data,
        sha256=hashlib.sha256(data).hexdigest(),
        size=len(data),
        extension="png",
        format="PNG",
        source_width=picture.width,
        source_height=picture.height,
        width=picture.width,
        height=picture.height,
        encoded=data,
    )


async def blocks(known: list[Scene], seed: int) -> list[str]:
    """What the committed writer says of the pictures at temperature 1."""
    settings = EngineExecution(kind="transformers", model_path=str(committed_model("writer")))
    engine = TransformersEngine(ModelRecipe(name="world/writer"), settings)
    await engine.start()
    requests = [
        Request(
            f"{number}",
            WRITER_PROMPT,
            Sampling(temperature=1.0, max_tokens=BLOCK_TOKENS, seed=seed + number),
            (seen(draw_scene(scene, 7)),),
        )
        for number, scene in enumerate(known)
    ]
    replies = await asyncio.gather(*map(engine.generate, requests))
    await engine.close()
    assert all(reply.finish_reason == "stop" for reply in replies)
    return [reply.text for reply in replies]


async def test_the_writer_writes_true_questions_about_new_pictures() -> None:
    known = list(scenes("held_out", ASKED, 99))
    first = await blocks(known, 1)
    figures = block_figures(first, known)
    assert figures["whole"] >= 0.95
    assert figures["true"] >= 0.9
    assert figures["distinct"] >= 0.99
    assert all(0.1 <= figures[f"ask_{kind}"] <= 0.3 for kind in KINDS)
    assert all(0.15 <= figures[f"gold_{letter}"] <= 0.35 for letter in "ABCD")
    published = committed_figures("writer")["held_out"]["sampled"]
    assert figures["true"] >= published["true"] - 0.05
    again = await blocks(known[:20], 1000)
    assert sum(one != other for one, other in zip(first, again, strict=False)) >= 19
    assert all(read_block(text).questions for text in again)


def test_it_is_listed_with_its_figures() -> None:
    listed = CliRunner().invoke(app, ["world", "models", "--json"])
    writer = [one for one in json.loads(listed.stdout) if one["model"] == "writer"]
    assert [one["folder"] for one in writer] == [str(committed_model("writer"))]
    assert writer[0]["held_out"]["sampled"]["true"] >= 0.9
