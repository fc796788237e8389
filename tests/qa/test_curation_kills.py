"""SIGKILL in every stage of a curation: the next run takes up at the sample, and the set comes out the same."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from caprl_core.qa.finish import finish, open_stages
from caprl_core.recipe.qa import QaRecipe
from caprl_core.shards.dataset import Dataset, open_dataset
from caprl_core.shards.verify import verify
from caprl_core.storage.commit import list_units, read_commit
from caprl_core.storage.layout import Unit
from caprl_core.storage.log import read_log
from caprl_core.storage.publish import read_object
from caprl_core.storage.store import Store
from support.scripted_qa import Asked, ScriptedQa, scripted_qa
from support.scripted_recipe import scripted_recipe, write_recipe

STEPS = [
    ("sample", 4),
    ("log flushed", 2),
    ("all logged", 1),
    ("packed", 1),
    ("tar put", 1),
    ("committed", 1),
    ("jsonl published", 1),
]
"""Each in a run of its own, one after the other: the dataset goes through seven deaths a stage."""
WINDOW = 6


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ScriptedQa, QaRecipe, dict[str, list[Asked]]]]:
    """A curation killed at every step of every stage, and the requests of each stage that came too often."""
    folder = tmp_path_factory.mktemp("killed")
    with scripted_qa(folder / "pictures", pause_s=0.004) as server:
        recipe = scripted_recipe(folder / "pictures", server.url, str(folder / "qa"))
        runner = recipe.execution.runner.model_copy(update={"window": WINDOW})
        recipe = recipe.model_copy(update={"execution": recipe.execution.model_copy(update={"runner": runner})})
        config = write_recipe(recipe, folder / "recipe.yaml")
        wasted: dict[str, list[Asked]] = {}
        for stage in ("generate", "extract", "answer", "filter"):
            steps = STEPS if stage != "filter" else [("put", number) for number in (1, 2, 5, 7, 8)]
            wasted[stage] = []
            spared = 0
            for step, occurrence in steps:
                before = len(server.asked)
                done = logged(recipe, stage)
                spared = max(spared, len(done))
                assert run(config, stage, step, occurrence) == -signal.SIGKILL, (stage, step)
                wasted[stage] += [asked for asked in server.asked[before:] if picture_of(asked, server) in done]
            before, done = len(server.asked), logged(recipe, stage)
            assert stage == "filter" or spared > len(STEPS), "resumes had nothing to take up"
            assert run(config, stage, "-", 0) == 0
            wasted[stage] += [asked for asked in server.asked[before:] if picture_of(asked, server) in done]
        yield server, recipe, wasted


def picture_of(asked: Asked, server: ScriptedQa) -> int | None:
    """Number of the picture a request is about; those without the image are known by their question."""
    if asked.image is not None or asked.stem is None:
        return asked.image
    stems = {question.stem: image.number for image in server.images.values() for question in image.questions}
    return stems[asked.stem]


def run(config: str, stage: str, step: str, occurrence: int) -> int:
    command = [sys.executable, "-m", "support.qa_process", config, stage, step, str(occurrence)]
    return subprocess.run(command, cwd=Path(__file__).parents[1], check=False).returncode


def logged(recipe: QaRecipe, stage: str) -> set[int | None]:
    """Numbers of the pictures whose samples the stage's store has for good, in a commit or in a log."""
    store = Store(f"{recipe.execution.output}/{stage}")
    if stage == "filter" or store.size("dataset.json") is None:
        return set()
    dataset = open_dataset(store)
    committed = set(list_units(store))
    keys: set[str] = set()
    for shard in range(dataset.record.shards):
        unit = Unit(shard, 0)
        keys |= set(dataset.plan.shard_keys(shard)) if unit in committed else set(read_log(store, unit))
    numbers = numbers_of(recipe)
    return {numbers[key] for key in keys if key in numbers}


def numbers_of(recipe: QaRecipe) -> dict[str, int]:
    """Sample key -> number in the picture: the plan of the first stage names the files."""
    store = Store(f"{recipe.execution.output}/generate")
    dataset = open_dataset(store)
    samples = [sample for shard in range(dataset.record.shards) for sample in dataset.plan.shard(shard)]
    return {sample.key: int("".join(filter(str.isdigit, Path(sample.image).stem))) for sample in samples}


def datasets(recipe: QaRecipe) -> list[Dataset]:
    return [dataset for dataset in open_stages(recipe) if dataset is not None]


def test_every_stage_is_sound(killed: tuple[ScriptedQa, QaRecipe, dict[str, list[Asked]]]) -> None:
    for dataset in datasets(killed[1]):
        report = verify(dataset, deep=True)
        assert report.sound, report.problems
        assert (report.pending, report.unpublished) == (0, 0)


@pytest.mark.parametrize("stage", ["generate", "answer"])
def test_nothing_that_was_logged_is_asked_again(
    killed: tuple[ScriptedQa, QaRecipe, dict[str, list[Asked]]], stage: str
) -> None:
    assert killed[2][stage] == []


def test_the_funnel_is_that_of_an_undisturbed_run(
    killed: tuple[ScriptedQa, QaRecipe, dict[str, list[Asked]]],
) -> None:
    server, recipe, _ = killed
    expected = server.expected_funnel()
    stats = finish(recipe).stats
    assert sum(stats.kept.values()) == expected.kept
    assert stats.parsed == expected.questions


def test_a_filter_killed_anywhere_leaves_one_whole_set(
    killed: tuple[ScriptedQa, QaRecipe, dict[str, list[Asked]]],
) -> None:
    _, recipe, _ = killed
    sets = {item.key.split("/")[1] for item in Store(recipe.execution.output).list("curated")}
    assert len(sets) == 1
    assert not finish(recipe).report.fresh


def test_the_rows_of_a_commit_are_those_its_ledger_counts(
    killed: tuple[ScriptedQa, QaRecipe, dict[str, list[Asked]]],
) -> None:
    for dataset in datasets(killed[1]):
        for unit in list_units(dataset.store):
            record = read_commit(dataset.store, unit)
            assert read_object(dataset.store, record.object("jsonl")).count(b"\n") == record.rows
