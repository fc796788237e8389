"""Training recipes: what is checked before a GPU is touched, what is identity, and what the shipped ones say."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from caprl_core.errors import BadInputError
from caprl_core.recipe.identity import differences, fingerprint, identity
from caprl_core.recipe.load import load_training_recipe, parse_training_recipe
from caprl_core.recipe.training import TrainingRecipe

CONFIGS = Path(__file__).parents[2] / "configs"
SHIPPED = sorted(CONFIGS.glob("grpo-*.yaml"))


def recipe(**changes: Any) -> TrainingRecipe:
    value = yaml.safe_load((CONFIGS / "grpo-world.yaml").read_text())
    for path, new in changes.items():
        *parents, last = path.split("__")
        place = value
        for name in parents:
            place = place.setdefault(name, {})
        place[last] = new
    return parse_training_recipe(yaml.safe_dump(value), file="r.yaml", variables={})


def test_captions_that_cannot_be_divided_among_processes_are_refused_with_the_figures() -> None:
    with pytest.raises(BadInputError, match=r"= 64 captions a step .* = 96"):
        recipe(execution__processes=3, execution__micro_batch=32)


def test_a_remote_run_needs_a_local_folder_to_work_in() -> None:
    with pytest.raises(BadInputError, match=r"execution\.work"):
        recipe(execution__output="s3://bucket/run")
    assert recipe(execution__output="s3://bucket/run", execution__work="/tmp/run").execution.work == "/tmp/run"


def test_a_server_of_rollouts_needs_its_address() -> None:
    with pytest.raises(BadInputError, match="server_url"):
        recipe(execution__rollouts={"kind": "vllm_server"})


def test_an_unknown_prompt_is_refused_with_those_there_are() -> None:
    with pytest.raises(BadInputError, match="describe-v1"):
        recipe(policy__prompt="describe-v9")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("execution__processes", 2),
        ("execution__micro_batch", 8),
        ("execution__output", "elsewhere"),
        ("execution__checkpoint_every", 3),
        ("questions__train", "elsewhere.parquet"),
        ("reward__execution__engine__concurrency", 3),
    ],
)
def test_how_it_runs_is_no_identity(path: str, value: Any) -> None:
    changed = {path: value}
    if path == "execution__processes":
        changed["execution__micro_batch"] = 8
    assert fingerprint(identity(recipe(**changed))) == fingerprint(identity(recipe()))


@pytest.mark.parametrize(
    ("path", "value"),
    [("seed", 1), ("steps", 61), ("grpo__kl", 0.5), ("reward__draws", 3), ("policy__lora", {"rank": 4})],
)
def test_what_is_learnt_is_identity(path: str, value: Any) -> None:
    assert [found.field for found in differences(identity(recipe(**{path: value})), identity(recipe()))][0].startswith(
        path.replace("__", ".")
    )


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_recipes_load_and_name_files_that_are_there(path: Path) -> None:
    found = load_training_recipe(path)
    if found.execution.accelerate_config is not None:
        config = yaml.safe_load((CONFIGS.parent / found.execution.accelerate_config).read_text())
        assert config["num_processes"] == found.execution.processes


def test_paper_and_release_differ_where_the_fact_sheet_says() -> None:
    paper = load_training_recipe(CONFIGS / "grpo-qwen2.5-vl-3b.yaml")
    released = load_training_recipe(CONFIGS / "grpo-qwen2.5-vl-3b-as-released.yaml")
    assert {found.field for found in differences(identity(paper), identity(released))} == {
        "name",
        "grpo.advantage",
        "grpo.kl",
        "reward.abstain",
        "reward.shuffle",
        "reward.terms.scale",
    }
