"""The curation flow against a real Prefect server and a scripted pair of models whose funnel is known beforehand."""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import pyarrow.parquet as pq
import pytest

from caprl_core.data.reasons import Reason
from caprl_core.errors import BadInputError, IdentityMismatchError
from caprl_core.qa.finish import Stages, finish, open_stages
from caprl_core.recipe.qa import QaRecipe
from caprl_core.shards.current import current_commits
from caprl_core.shards.shard_lines import shard_lines
from caprl_core.shards.verify import verify
from caprl_core.storage.store import Store
from flows.curate_qa import curate_qa
from support.scripted_qa import ScriptedQa, scripted_qa
from support.scripted_recipe import scripted_recipe, write_recipe
from tasks.shard import work_shard

pytestmark = pytest.mark.usefixtures("prefect_api")


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work_shard, "retry_delay_seconds", [0.01, 0.01, 0.01])


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ScriptedQa]:
    """One request in eight meets a 429 or a 500 at its first arrival."""
    with scripted_qa(tmp_path / "pictures", too_many=0.08, broken=0.05) as script:
        yield script


class Curated(NamedTuple):
    """A set the flow has made once, for the tests that only look at it or run on top of it."""

    recipe: QaRecipe
    config: str
    server: ScriptedQa


@pytest.fixture(scope="module")
def curated(tmp_path_factory: pytest.TempPathFactory, prefect_api: str) -> Iterator[Curated]:
    folder = tmp_path_factory.mktemp("curated")
    with scripted_qa(folder / "pictures", too_many=0.08, broken=0.05) as script:
        recipe = scripted_recipe(folder / "pictures", script.url, str(folder / "qa"))
        config = write_recipe(recipe, folder / "recipe.yaml")
        curate_qa(config)
        yield Curated(recipe, config, script)


def rows(dataset: Any) -> Iterator[dict[str, Any]]:
    for shard in shard_lines(dataset.store, current_commits(dataset).records, threads=2):
        yield from map(orjson.loads, shard.lines)


def plain(stem: str) -> str:
    """Some blocks break their stems over lines."""
    return " ".join(stem.split())


def check(recipe: QaRecipe) -> Stages:
    stages = open_stages(recipe)
    for dataset in stages:
        if dataset is not None:
            report = verify(dataset, deep=True)
            assert report.sound, report.problems
            assert report.pending == 0
    return stages


@pytest.mark.parametrize("place", ["folder", "s3"])
def test_the_funnel_is_the_one_the_script_foretells(
    place: str, tmp_path: Path, server: ScriptedQa, request: pytest.FixtureRequest
) -> None:
    output = str(tmp_path / "qa") if place == "folder" else f"s3://{request.getfixturevalue('bucket')}/qa"
    recipe = scripted_recipe(tmp_path / "pictures", server.url, output)
    summary = curate_qa(write_recipe(recipe, tmp_path / "recipe.yaml"))
    stages = check(recipe)
    expected = server.expected_funnel()
    finished = finish(recipe)
    stats = finished.stats
    assert not finished.report.fresh, "the flow has made this set"
    assert summary["stages"]["filter"]["kept"] == expected.kept == sum(stats.kept.values())
    assert stats.funnel["images"] == expected.images
    assert stats.funnel["blocks"] == expected.blocks
    assert stats.rejected["generate"] == {str(reason): n for reason, n in sorted(expected.rejected.items())}
    assert stats.rejected["answer"] == {str(Reason.NO_QUESTION): expected.without_questions}
    assert stats.refused == {str(reason): n for reason, n in sorted(expected.refused.items())}
    assert stats.parsed == expected.questions
    assert stats.reasons == {str(r): n for r, n in sorted(Counter(filter(None, expected.verdicts.values())).items())}
    verdicts = pq.read_table(Store(output).open(f"{finished.report.prefix}/verdicts.parquet")).to_pylist()
    ends = {line["id"]: line["reason"] for line in verdicts if line["id"] is not None}
    stems = {question["id"]: plain(question["stem"]) for row in rows(stages.answered) for question in row["questions"]}
    assert {stems[name]: reason for name, reason in ends.items()} == expected.verdicts
    assert not [asked for asked in server.asked if asked.role == "puzzled"]
    assert server.answered_twice() == []


def test_a_second_run_asks_nothing(curated: Curated) -> None:
    asked = len(curated.server.asked)
    summary = curate_qa(curated.config)
    assert len(curated.server.asked) == asked
    assert summary["stages"]["answer"]["shards_committed"] == 0
    assert not summary["stages"]["filter"]["fresh"]


def test_stages_run_one_by_one_and_refuse_what_is_not_ready(tmp_path: Path, server: ScriptedQa) -> None:
    recipe = scripted_recipe(tmp_path / "pictures", server.url, str(tmp_path / "qa"))
    config = write_recipe(recipe, tmp_path / "recipe.yaml")
    with pytest.raises(BadInputError, match="no dataset here yet"):
        curate_qa(config, stages=["answer"])
    with pytest.raises(BadInputError, match="no judge; there are generate"):
        curate_qa(config, stages=["judge"])
    for stage in ("generate", "extract", "answer", "filter"):
        curate_qa(config, stages=[stage])
    assert sum(finish(recipe).stats.kept.values()) == server.expected_funnel().kept


def test_another_answerer_is_refused_and_named(curated: Curated, tmp_path: Path) -> None:
    answerer = curated.recipe.answerer.model_copy(update={"rotations": 2})
    other = write_recipe(curated.recipe.model_copy(update={"answerer": answerer}), tmp_path / "recipe.yaml")
    with pytest.raises(IdentityMismatchError, match=r"answerer\.rotations: dataset has 4, recipe has 2"):
        curate_qa(other, stages=["answer"])


def test_refilter_asks_no_model_and_keeps_the_earlier_set(curated: Curated) -> None:
    recipe, config, server = curated
    asked = len(server.asked)
    command = [sys.executable, "-m", "caprl_core.cli", "qa", "refilter", config]
    command += ["--text-below", "1", "--text-inclusive", "--json"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    expected = server.expected_funnel(text_below=1.0, text_inclusive=True)
    found = json.loads(done.stdout)
    assert found["kept"] == expected.kept > server.expected_funnel().kept
    assert len(server.asked) == asked
    assert len({item.key.split("/")[1] for item in Store(recipe.execution.output).list("curated")}) == 2
    shown = subprocess.run(
        [sys.executable, "-m", "caprl_core.cli", "qa", "stats", config, "--set", found["set"], "--json"],
        check=True,
        capture_output=True,
        text=True,
    )
    assert sum(json.loads(shown.stdout)["kept"].values()) == expected.kept


@pytest.mark.parametrize("mode", ["logprob", "confidence"])
def test_the_other_ways_of_asking_find_the_same_questions(mode: str, tmp_path: Path, server: ScriptedQa) -> None:
    answerer: dict[str, Any] = {"model": {"name": "scripted-answerer"}, "rotations": 4}
    answerer |= {"mode": "logprob"} if mode == "logprob" else {"confidence": {"level": 0.8, "budget": 12}}
    recipe = scripted_recipe(tmp_path / "pictures", server.url, str(tmp_path / "qa"), answerer=answerer)
    curate_qa(write_recipe(recipe, tmp_path / "recipe.yaml"))
    stages = check(recipe)
    expected = server.expected_funnel()
    kept = {
        plain(question["stem"])
        for name in ("train", "held_out")
        for question in pq.read_table(
            Store(str(tmp_path / "qa")).open(f"{finish(recipe).report.prefix}/questions-{name}.parquet")
        ).to_pylist()
    }
    clear = {stem for stem, reason in expected.verdicts.items() if reason is None}
    assert clear <= kept
    votes = Counter(len(question["visual"]) for row in rows(stages.answered) for question in row["questions"])
    assert set(votes) == {4} if mode == "logprob" else max(votes) > 4
