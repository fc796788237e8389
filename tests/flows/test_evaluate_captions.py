"""The evaluation flow under a real Prefect server: both stages, scores, resumption, and captions of a file."""

import json
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from caprl_core.errors import BadInputError
from caprl_core.recipe.load import load_prism_recipe
from caprl_core.world.benchmark import WrittenBenchmark, write_benchmark
from caprl_core.world.captions import THIN, Detail, random_caption
from caprl_core.world.model_folders import committed_model
from caprl_core.world.question_set import drawn_scenes
from flows.evaluate_captions import evaluate_captions
from support.scripted_prism import ScriptedPrism, prism_recipe, scripted_prism, write_recipe

pytestmark = pytest.mark.usefixtures("prefect_api")
PICTURES = 48
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def benchmark(tmp_path_factory: pytest.TempPathFactory) -> WrittenBenchmark:
    return write_benchmark(tmp_path_factory.mktemp("benchmark"), "held_out", PICTURES, 1)


@pytest.fixture
def server() -> Iterator[ScriptedPrism]:
    with scripted_prism() as server:
        yield server


@pytest.fixture
def world(benchmark: WrittenBenchmark, tmp_path: Path) -> str:
    """The shipped recipe of the world, with its reader as the judge."""
    recipe = yaml.safe_load((ROOT / "configs" / "prism-world.yaml").read_text())
    recipe["benchmarks"][0] |= {"uri": str(benchmark.questions), "images": {"": str(benchmark.pictures)}}
    recipe["execution"]["output"] = str(tmp_path / "prism")
    recipe["execution"]["captioner"]["model_path"] = str(committed_model("captioner"))
    recipe["execution"]["judge"]["model_path"] = str(committed_model("reader"))
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe))
    return str(path)


def captions_file(path: Path, detail: Detail) -> Path:
    rng = random.Random(0)
    rows = [
        {"image": f"{name}.png", "caption": random_caption(scene, detail, rng)}
        for name, scene in drawn_scenes("held_out", PICTURES, 1).items()
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def macro(summary: dict[str, Any]) -> dict[str, float]:
    """Mean and interval over the benchmarks."""
    results = json.loads((Path(summary["stages"]["score"]["uri"]) / "results.json").read_bytes())
    return dict(results["macro"]["mean"])


def test_more_complete_captions_score_higher_and_their_intervals_do_not_touch(
    world: str, benchmark: WrittenBenchmark, tmp_path: Path
) -> None:
    files = {
        "thin": captions_file(tmp_path / "thin.jsonl", THIN),
        "half": captions_file(tmp_path / "half.jsonl", Detail(0.8, 0.8, 0.7, 0.6)),
        "perfect": benchmark.perfect,
    }
    found = {
        name: macro(evaluate_captions(world, captions={"name": name, "uri": str(uri)})) for name, uri in files.items()
    }
    assert found["thin"]["high"] < found["half"]["low"]
    assert found["half"]["high"] < found["perfect"]["low"]
    assert found["perfect"]["value"] > 0.95


def test_the_captioner_writes_and_the_judge_reads(world: str) -> None:
    summary = evaluate_captions(world)
    recipe = load_prism_recipe(world)
    assert recipe.captioner is not None
    results = json.loads((Path(summary["stages"]["score"]["uri"]) / "results.json").read_bytes())
    (one,) = results["benchmarks"]
    assert (one["images"]["judged"], one["captions"]["least"]) == (PICTURES, recipe.captioner.captions)
    assert 0.05 < one["mean"]["value"] < 0.3, "the thin warm start: 0.12 to 0.14"
    assert one["mean"]["value"] < one["best"]["value"]
    assert summary["lines"]


def test_a_second_run_asks_nothing(benchmark: WrittenBenchmark, server: ScriptedPrism, tmp_path: Path) -> None:
    config = write_recipe(prism_recipe(benchmark, server.url, str(tmp_path / "prism")), tmp_path / "recipe.yaml")
    first = evaluate_captions(config)
    asked = len(server.asked)
    second = evaluate_captions(config)
    assert len(server.asked) == asked > 0
    assert first["stages"]["score"]["uri"] == second["stages"]["score"]["uri"]


def test_a_gold_answer_that_nothing_can_be_scored_by_ends_it_before_anything_is_asked(
    benchmark: WrittenBenchmark, server: ScriptedPrism, tmp_path: Path
) -> None:
    questions = tmp_path / "questions.jsonl"
    first, *others = benchmark.questions.read_text().splitlines()
    bad = {"id": "bad", "image": json.loads(first)["image"], "question": "Which?", "answer": "a long story"}
    questions.write_text("\n".join([first, json.dumps(bad), *others]) + "\n")
    recipe = prism_recipe(benchmark._replace(questions=questions), server.url, str(tmp_path / "prism"))
    with pytest.raises(BadInputError) as error:
        evaluate_captions(write_recipe(recipe, tmp_path / "recipe.yaml"))
    assert "questions.jsonl: line 2" in str(error.value)
    assert "question bad" in str(error.value)
    assert server.asked == []


def test_stages_are_refused_by_name(world: str) -> None:
    with pytest.raises(BadInputError, match="no answer; there are captions, judge, score"):
        evaluate_captions(world, stages=["answer"])


def test_the_command_judges_a_file_and_tells_its_score(world: str, benchmark: WrittenBenchmark) -> None:
    command = [sys.executable, "-m", "caprl_core.cli", "prism", "judge", world]
    command += ["--captions", str(benchmark.perfect), "--name", "perfect", "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert events[-1]["event"] == "summary"
    assert macro(events[-1])["value"] > 0.95
