"""`caprl prism`: tables of stored replies in each form, and two runs held against each other."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from caprl_core.cli import app
from caprl_core.errors import BadInputError
from caprl_core.exit_codes import ExitCode
from caprl_core.prism.finish import finish
from caprl_core.prism.stages import caption_recipe, judge_recipe
from caprl_core.recipe.prism import PrismRecipe
from caprl_core.shards.dataset import create_dataset
from caprl_core.shards.plan import write_plan
from caprl_core.storage.store import Store
from caprl_core.world.benchmark import write_benchmark
from support.prism_process import work, worked
from support.qa_process import Death, fingerprint
from support.scripted_prism import CAPTIONER, ScriptedPrism, prism_recipe, scripted_prism, write_recipe

RUNNER = CliRunner()


@pytest.fixture(scope="module")
def server() -> Iterator[ScriptedPrism]:
    with scripted_prism() as server:
        yield server


@pytest.fixture(scope="module")
def runs(server: ScriptedPrism, tmp_path_factory: pytest.TempPathFactory) -> dict[str, PrismRecipe]:
    """Two runs with their results, which differ in the captioner's seed, and one with another judge's prompt."""
    folder = tmp_path_factory.mktemp("runs")
    benchmark = write_benchmark(folder / "benchmark", "held_out", 6)
    plain = {"id": "own", "text": "{caption}\n{question}"}
    changes = {
        "first": {},
        "second": {"captioner": {"model": {"name": CAPTIONER}, "sampling": {"seed": 1}}},
        "other": {"judge": {"model": {"name": "scripted-judge"}, "prompt": plain}},
    }
    made = {}
    for name, change in changes.items():
        made[name] = prism_recipe(benchmark, server.url, str(folder / name), **change)
        worked(made[name])
        write_recipe(made[name], folder / f"{name}.yaml")
        finish(made[name])
    return made


def said(*words: str) -> str:
    done = RUNNER.invoke(app, ["prism", *words], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def recipe_file(recipe: PrismRecipe) -> str:
    return f"{recipe.execution.output}.yaml"


@pytest.mark.parametrize(("form", "mark"), [("text", "world"), ("markdown", "| world |"), ("latex", "\\toprule")])
def test_a_report_in_each_form(runs: dict[str, PrismRecipe], form: str, mark: str) -> None:
    from_recipe = said("report", recipe_file(runs["first"]), "--as", form)
    assert mark in from_recipe
    assert said("report", runs["first"].execution.output, "--as", form) == from_recipe


def test_several_runs_stand_side_by_side(runs: dict[str, PrismRecipe]) -> None:
    shown = said("report", runs["first"].execution.output, runs["second"].execution.output, "--as", "markdown")
    (heading, *_) = [line for line in shown.splitlines() if line.startswith("|")]
    assert heading.count(CAPTIONER) == 2


def test_a_report_as_json_is_results_json(runs: dict[str, PrismRecipe]) -> None:
    (result,) = json.loads(said("report", runs["first"].execution.output, "--json"))
    (file,) = Path(runs["first"].execution.output).glob("results/*/results.json")
    assert result == json.loads(file.read_bytes())


def test_a_run_against_itself_and_another_is_told_question_by_question(runs: dict[str, PrismRecipe]) -> None:
    first, second = (runs[name].execution.output for name in ("first", "second"))
    found = json.loads(said("compare", first, second, "--json"))
    (world,) = found["benchmarks"]
    # The judge always says A: both runs have the same points on every question.
    assert (world["wins"], world["losses"], world["difference"]["value"]) == (0, 0, 0.0)
    assert world["ties"] == world["questions"] > 0
    assert "not told apart" in said("compare", first, second)


def test_runs_of_another_judge_are_refused_and_compared_only_with_force(runs: dict[str, PrismRecipe]) -> None:
    first, other = (runs[name].execution.output for name in ("first", "other"))
    with pytest.raises(BadInputError, match=r"judge\.prompt\.id"):
        RUNNER.invoke(app, ["prism", "compare", first, other], catch_exceptions=False)
    assert json.loads(said("compare", first, other, "--force", "--json"))["forced"]


def test_a_run_that_is_not_finished_is_told_and_shown_with_partial(
    server: ScriptedPrism, tmp_path: Path, runs: dict[str, PrismRecipe]
) -> None:
    recipe = runs["first"].model_copy(
        update={"execution": runs["first"].execution.model_copy(update={"output": str(tmp_path / "part")})}
    )
    work(recipe, "captions", Death("-", 0))
    config = write_recipe(recipe, tmp_path / "recipe.yaml")
    with pytest.raises(BadInputError, match="this stage has not begun"):
        RUNNER.invoke(app, ["prism", "report", config], catch_exceptions=False)
    own = judge_recipe(recipe, fingerprint(caption_recipe(recipe)))
    store = Store(own.execution.output)
    create_dataset(own, store, write_plan(own, store), "judge")
    done = RUNNER.invoke(app, ["prism", "report", config], catch_exceptions=False)
    assert done.exit_code == ExitCode.INCOMPLETE
    assert "6 of 6 images are still to be judged" in done.stderr


def test_a_missing_folder_is_named() -> None:
    with pytest.raises(BadInputError, match="no such folder"):
        RUNNER.invoke(app, ["prism", "compare", "nowhere", "nowhere"], catch_exceptions=False)
