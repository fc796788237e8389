"""SIGKILL in both Prism stages: the next run takes up at the sample, and nothing that was logged is asked again."""

import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import orjson
import pytest

from caprl_core.recipe.prism import PrismRecipe
from caprl_core.shards.current import current_commits
from caprl_core.shards.dataset import open_dataset
from caprl_core.shards.shard_lines import shard_lines
from caprl_core.shards.verify import verify
from caprl_core.storage.commit import list_units
from caprl_core.storage.layout import Unit
from caprl_core.storage.log import read_log
from caprl_core.storage.store import Store
from caprl_core.world.benchmark import write_benchmark
from support.scripted_prism import CAPTIONS, Asked, ScriptedPrism, prism_recipe, scripted_prism, write_recipe

STAGES = ("captions", "judge")
STEPS = [
    ("sample", 3),
    ("log flushed", 2),
    ("all logged", 1),
    ("packed", 1),
    ("tar put", 1),
    ("committed", 1),
    ("jsonl published", 1),
]
"""Each in a run of its own, one after the other: the dataset goes through seven deaths a stage."""
PICTURES = 36


class Killed(NamedTuple):
    """An evaluation killed at every step of both stages; `again` are requests about samples that were done."""

    recipe: PrismRecipe
    server: ScriptedPrism
    again: dict[str, list[Asked]]
    spared: dict[str, int]


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Killed]:
    folder = tmp_path_factory.mktemp("killed")
    benchmark = write_benchmark(folder / "benchmark", "held_out", PICTURES)
    with scripted_prism(pause_s=0.004) as server:
        recipe = prism_recipe(benchmark, server.url, str(folder / "prism"))
        config = write_recipe(recipe, folder / "recipe.yaml")
        again: dict[str, list[Asked]] = {}
        spared: dict[str, int] = {}
        for stage in STAGES:
            again[stage], spared[stage] = [], 0
            for step, occurrence in [*STEPS, ("-", 0)]:
                done, before = done_pictures(recipe, stage, server), len(server.asked)
                spared[stage] = max(spared[stage], len(done))
                expected = 0 if step == "-" else -signal.SIGKILL
                assert run(config, stage, step, occurrence) == expected, (stage, step)
                again[stage] += [one for one in server.asked[before:] if one.picture in done]
        yield Killed(recipe, server, again, spared)


def run(config: str, stage: str, step: str, occurrence: int) -> int:
    command = [sys.executable, "-m", "support.prism_process", config, stage, step, str(occurrence)]
    return subprocess.run(command, cwd=Path(__file__).parents[1], check=False).returncode


def done_pictures(recipe: PrismRecipe, stage: str, server: ScriptedPrism) -> set[str]:
    """The server's names of pictures whose samples the stage's store has for good, in a commit or in a log."""
    store = Store(f"{recipe.execution.output}/{stage}")
    if store.size("dataset.json") is None:
        return set()
    dataset = open_dataset(store)
    committed = set(list_units(store))
    found: set[str] = set()
    for shard in range(dataset.record.shards):
        unit = Unit(shard, 0)
        if unit not in committed:
            rows = [result.row for result in read_log(store, unit).values()]
            found |= {row["captions"][0]["text"].split()[1].rstrip(",") for row in rows if row is not None}
    for shard_rows in shard_lines(store, current_commits(dataset).records, threads=1):
        for line in shard_rows.lines:
            found.add(orjson.loads(line)["captions"][0]["text"].split()[1].rstrip(","))
    return found


def test_both_datasets_are_sound_and_whole(killed: Killed) -> None:
    for stage in STAGES:
        dataset = open_dataset(Store(f"{killed.recipe.execution.output}/{stage}"))
        report = verify(dataset, deep=True)
        assert report.sound, report.problems
        assert (dataset.record.samples, report.pending, report.unpublished) == (PICTURES, 0, 0)


@pytest.mark.parametrize("stage", STAGES)
def test_nothing_that_was_logged_is_asked_again(killed: Killed, stage: str) -> None:
    assert killed.again[stage] == []
    assert killed.spared[stage] > len(STEPS), "resumes had something to take up"


def test_every_question_is_answered_for_every_caption(killed: Killed) -> None:
    dataset = open_dataset(Store(f"{killed.recipe.execution.output}/judge"))
    replies: Counter[int] = Counter()
    for shard in shard_lines(dataset.store, current_commits(dataset).records, threads=1):
        for line in shard.lines:
            replies.update(len(one["replies"]) for one in orjson.loads(line)["questions"])
    assert set(replies) == {CAPTIONS}
    assert replies.total() == len((Path(killed.recipe.benchmarks[0].uri)).read_text().splitlines())
