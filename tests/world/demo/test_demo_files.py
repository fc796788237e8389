"""What the demo gives its commands: pictures with known questions, oddities, and recipes that are valid."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from caprl_core.data.sources import open_source
from caprl_core.recipe.load import load_qa_recipe, load_recipe, load_reward_recipe, load_training_recipe
from caprl_core.recipe.models import SourceRecipe, StorageExecution
from caprl_core.reward.questions import read_questions
from caprl_core.world.demo.drawing import ESCAPING, MISSING, draw_world
from caprl_core.world.demo.files import DemoFolder
from caprl_core.world.demo.recipes import (
    write_caption_recipe,
    write_curation_recipe,
    write_score_recipe,
    write_training_recipe,
)
from caprl_core.world.model_folders import committed_model
from support.demo_parts import SMALL, commands_in


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> DemoFolder:
    """A folder with the pictures of the small sizes."""
    folder = DemoFolder(tmp_path_factory.mktemp("demo"))
    folder.clear()
    world = draw_world(folder, SMALL, commands_in(folder))
    assert world.records == SMALL.captioned + len(world.hostile) + 2
    return folder


def test_the_pictures_to_learn_from_are_as_many_as_wanted(drawn: DemoFolder) -> None:
    assert len(list(drawn.taught.glob("*.png"))) == SMALL.curated


def test_every_captioned_picture_is_the_one_its_questions_are_about(drawn: DemoFolder) -> None:
    stored = pq.read_table(drawn.asked, columns=["image"]).column("image").to_pylist()
    assert len(stored) == SMALL.captioned
    for image in stored:
        assert (drawn.unseen / image["path"]).read_bytes() == image["bytes"]


def test_what_is_judged_was_not_watched_in_training(drawn: DemoFolder) -> None:
    watched, asked = (set(read_questions(str(path))) for path in (drawn.watched, drawn.asked))
    assert len(watched) == SMALL.watched
    assert not watched & asked


def test_the_list_to_be_captioned_holds_every_picture_and_every_oddity(drawn: DemoFolder) -> None:
    recipe = load_recipe(
        write_caption_recipe(
            drawn,
            "before",
            captioner=committed_model("captioner"),
            output=str(drawn.root / "out"),
            endpoint="http://127.0.0.1:1",
            engine="transformers",
        )
    )
    images = [record.image for record in open_source(recipe.sources[0], recipe.execution.storage).records()]
    assert len(images) == len(set(images)) == SMALL.captioned + 4 + 2
    assert {MISSING, ESCAPING, "bomb.png"} <= set(images)


def test_both_datasets_differ_in_nothing_but_the_captioner(drawn: DemoFolder) -> None:
    before, after = (
        load_recipe(
            write_caption_recipe(
                drawn,
                era,
                captioner=committed_model("captioner"),
                output=f"s3://bucket/{era}",
                endpoint="http://127.0.0.1:1",
                engine=engine,
            )
        )
        for era, engine in (("before", "transformers"), ("after", "vllm"))
    )
    assert before.model.name != after.model.name
    assert (before.prompt, before.sampling, before.image, before.checks) == (
        after.prompt,
        after.sampling,
        after.image,
        after.checks,
    )
    assert (before.execution.engine.kind, after.execution.engine.kind) == ("transformers", "vllm")
    assert before.execution.runner.flush_s < 0.5, "or the killed run would leave nothing in its log"


def test_the_curation_asks_about_the_training_pictures(drawn: DemoFolder) -> None:
    recipe = load_qa_recipe(write_curation_recipe(drawn))
    source = SourceRecipe(name="pictures", kind="folder", uri=str(drawn.taught))
    assert recipe.sources == (source,)
    assert len(list(open_source(source, StorageExecution()).records())) == SMALL.curated


def test_training_learns_from_the_curated_questions_and_looks_at_true_ones(drawn: DemoFolder) -> None:
    recipe = load_training_recipe(write_training_recipe(drawn, SMALL))
    assert recipe.questions.train == str(drawn.curated)
    assert recipe.questions.held_out == str(drawn.watched)
    assert recipe.steps == SMALL.steps
    assert recipe.evaluation.every <= SMALL.steps


def test_scoring_asks_every_question_once_and_counts_nothing_else(drawn: DemoFolder) -> None:
    recipe = load_reward_recipe(write_score_recipe(drawn))
    most = max(len(questions) for questions in read_questions(str(drawn.asked)).values())
    assert recipe.draws >= most
    assert not recipe.replacement
    assert recipe.terms.truncated == "reward"
    assert recipe.reader == load_training_recipe(write_training_recipe(drawn, SMALL)).reward.reader


def test_what_an_earlier_demo_made_is_removed_and_nothing_else(tmp_path: Path) -> None:
    folder = DemoFolder(tmp_path / "demo")
    folder.clear()
    folder.captions("before").write_text("{}")
    folder.page.write_text("old")
    own = folder.root / "qa" / "mine.txt"
    own.parent.mkdir()
    own.write_text("kept")
    folder.clear()
    assert not folder.page.exists()
    assert not folder.captions("before").exists()
    assert own.read_text() == "kept"
    assert list(folder.captions("before").parent.iterdir()) == []
