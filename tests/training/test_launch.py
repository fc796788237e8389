"""How training processes are started: their recipe, their command, their environment."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from caprl_core.errors import BadInputError
from caprl_core.recipe.load import load_training_recipe
from caprl_core.recipe.training import TrainingRecipe
from caprl_core.training.launch import (
    machine_rank,
    training_command,
    training_environment,
    work_folder,
    write_recipe,
)

ROOT = Path(__file__).parents[2]


def recipe(folder: Path, **execution: Any) -> TrainingRecipe:
    document = yaml.safe_load((ROOT / "configs/grpo-world.yaml").read_text())
    document["execution"] |= {"output": str(folder / "run"), "micro_batch": 4, **execution}
    file = folder / "given.yaml"
    file.write_text(yaml.safe_dump(document))
    return load_training_recipe(file)


def test_one_process_is_started_directly(tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    assert training_command(recipe(tmp_path), file) == [
        *(sys.executable, "-m", "caprl_core.training"),
        *("--recipe", str(file)),
    ]


def test_several_processes_are_started_by_torch_and_all_of_them_run(tmp_path: Path) -> None:
    command = training_command(recipe(tmp_path, processes=2), tmp_path / "recipe.yaml")
    assert command[2:6] == ["torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    # The same launcher with a module that only tells who it is.
    told = "import os\nos.write(1, f\"{os.environ['RANK']} {os.environ['WORLD_SIZE']}\\n\".encode())\n"  # in one piece
    (tmp_path / "told.py").write_text(told)
    asked = [*command[: command.index("-m", 3)], "-m", "told"]
    done = subprocess.run(asked, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=120)
    assert sorted(done.stdout.split("\n")) == ["", "0 2", "1 2"]


def test_a_configuration_of_accelerates_is_handed_to_its_launcher(tmp_path: Path) -> None:
    config = tmp_path / "accelerate.yaml"
    config.write_text("compute_environment: LOCAL_MACHINE\ndistributed_type: 'NO'\nuse_cpu: true\nmachine_rank: 0\n")
    (tmp_path / "told.py").write_text("import sys\nprint('told', sys.argv[1:], flush=True)\n")
    given = recipe(tmp_path, accelerate_config=str(config))
    command = training_command(given, Path("recipe.yaml"))
    assert machine_rank(given) == 0
    asked = ["told" if word == "caprl_core.training" else word for word in command]
    done = subprocess.run(asked, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)
    assert "told ['--recipe', 'recipe.yaml']" in done.stdout, done.stderr


@pytest.mark.parametrize(("precision", "mixed"), [("float32", "no"), ("bfloat16", "bf16")])
def test_the_recipes_precision_is_what_the_processes_compute_in(tmp_path: Path, precision: str, mixed: str) -> None:
    config = tmp_path / "accelerate.yaml"
    other = {"float32": "bf16", "bfloat16": "'no'"}[precision]
    config.write_text(
        "compute_environment: LOCAL_MACHINE\ndistributed_type: 'NO'\nuse_cpu: true\nmachine_rank: 0\n"
        f"mixed_precision: {other}\n"
    )
    (tmp_path / "told.py").write_text(
        "import os\nprint('told', os.environ['ACCELERATE_MIXED_PRECISION'], flush=True)\n"
    )
    command = training_command(
        recipe(tmp_path, accelerate_config=str(config), precision=precision), Path("recipe.yaml")
    )
    asked = ["told" if word == "caprl_core.training" else word for word in command]
    done = subprocess.run(asked, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)
    assert f"told {mixed}\n" in done.stdout, done.stderr


def test_without_gpus_torch_starts_as_many_as_asked_for(tmp_path: Path) -> None:
    given = recipe(tmp_path, processes=2, accelerate_config=str(ROOT / "configs/accelerate/two-processes-cpu.yaml"))
    command = training_command(given, tmp_path / "recipe.yaml")
    assert command[2:6] == ["torch.distributed.run", "--standalone", "--nproc_per_node", "2"]


def test_machines_differ_by_their_configuration_or_their_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "accelerate.yaml"
    given = recipe(tmp_path, accelerate_config=str(config), processes=2)
    config.write_text("num_machines: 2\nmachine_rank: 1\nmain_process_ip: 10.0.0.1\n")
    assert machine_rank(given) == 1
    assert machine_rank(recipe(tmp_path)) == 0
    monkeypatch.setenv("ACCELERATE_MACHINE_RANK", "0")
    monkeypatch.setenv("MASTER_PORT", "29501")
    assert machine_rank(given) == 0
    command = training_command(given, tmp_path / "recipe.yaml")
    assert command[3 : command.index("-m", 3)] == [
        *("--config_file", str(config), "--num_processes", "2", "--mixed_precision", "no"),
        *("--machine_rank", "0", "--main_process_ip", "10.0.0.1", "--main_process_port", "29501"),
    ]
    for wrong in ("2", "-1", "first"):
        monkeypatch.setenv("ACCELERATE_MACHINE_RANK", wrong)
        with pytest.raises(BadInputError, match=f"which of 2 machines is this one.*not {wrong}"):
            machine_rank(given)
    config.write_text("num_machines: 1\n")
    assert machine_rank(given) == 0, "a single machine is the first, whatever a job operator has set"


def test_a_configuration_that_is_none_is_refused(tmp_path: Path) -> None:
    config = tmp_path / "accelerate.yaml"
    given = recipe(tmp_path, accelerate_config=str(config))
    with pytest.raises(BadInputError, match="cannot be read"):
        machine_rank(given)
    for broken in ("- a list\n", "{"):
        config.write_text(broken)
        with pytest.raises(BadInputError, match=r"accelerate\.yaml"):
            training_command(given, tmp_path / "recipe.yaml")


def test_the_environment_is_ours_without_what_another_launcher_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("WORLD_SIZE", "8")
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "true")
    found = training_environment(recipe(tmp_path, threads=2))
    assert "RANK" not in found
    assert "WORLD_SIZE" not in found
    assert found["TOKENIZERS_PARALLELISM"] == "true", "the user's own is kept"
    assert found["OMP_NUM_THREADS"] == "2"
    assert found["PATH"] == os.environ["PATH"]


def test_the_recipe_is_written_down_with_variables_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAPRL_WORLD_TRAIN", "somewhere.parquet")
    given = recipe(tmp_path, work=str(tmp_path / "work"))
    file = write_recipe(given, work_folder(given))
    monkeypatch.setenv("CAPRL_WORLD_TRAIN", "elsewhere.parquet")
    assert file == tmp_path / "work" / "recipe.yaml"
    assert load_training_recipe(file) == given
    assert load_training_recipe(file).questions.train == "somewhere.parquet"
    odd = given.questions.model_copy(update={"train": "${NOT_SET}.parquet"})
    with pytest.raises(BadInputError, match="no path or address"):
        write_recipe(given.model_copy(update={"questions": odd}), work_folder(given))
    assert load_training_recipe(file) == given, "the one before is untouched"
