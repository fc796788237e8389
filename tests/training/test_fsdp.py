"""Weights shared by several processes (FSDP): the reference of the KL penalty is the start, or the run is refused."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils.launch import prepare_multi_gpu_env

from caprl_core.recipe.load import load_training_recipe
from caprl_core.training.launch import training_command, training_environment
from support.world_training import ROOT, world_recipe

CONFIGS = sorted((ROOT / "configs/accelerate").glob("*node*.yaml"))
CAPTIONER = ROOT / "caprl_core/world/weights/captioner"


def settings_of(config: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What `accelerate launch` tells the processes of FSDP."""
    for name in [name for name in os.environ if name.startswith(("ACCELERATE_", "FSDP_"))]:
        monkeypatch.delenv(name)
    given = ["--config_file", str(config), "--machine_rank", "0", "--main_process_ip", "127.0.0.1", "told.py"]
    arguments, _, _ = _validate_launch_command(launch_command_parser().parse_args(given))
    made = prepare_multi_gpu_env(arguments)
    return {name: value for name, value in made.items() if name.startswith(("ACCELERATE_USE_FSDP", "FSDP_"))}


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_every_process_reads_the_weights(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_of(config, monkeypatch)
    assert (settings["ACCELERATE_USE_FSDP"], settings["FSDP_VERSION"]) == ("true", "2")
    assert settings["FSDP_CPU_RAM_EFFICIENT_LOADING"] == "false"


@pytest.mark.long
@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_the_reference_of_the_kl_penalty_is_the_start(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_of(config, monkeypatch)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"),
            *("-m", "support.sharded_reference", str(CAPTIONER)),
        ],
        env={**os.environ, **settings, "PYTHONPATH": f"{ROOT / 'tests'}:{ROOT}", "HF_HUB_OFFLINE": "1"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=250,
    )
    assert "wrong: 0\n" in done.stdout, done.stdout + done.stderr[-3000:]


def test_a_reference_that_would_be_zeros_is_refused(tmp_path: Path) -> None:
    file = world_recipe(tmp_path, execution__processes=2, execution__micro_batch=8)
    recipe = load_training_recipe(file)
    assert recipe.grpo.kl > 0
    done = subprocess.run(
        training_command(recipe, file),
        env=training_environment(recipe)
        | {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2", "FSDP_CPU_RAM_EFFICIENT_LOADING": "true"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=250,
    )
    told = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"event"')]
    assert {(event["event"], event.get("kind")) for event in told} == {("error", "BadInputError")}
    assert "fsdp_cpu_ram_efficient_loading: false" in told[0]["error"]
    assert not (tmp_path / "run").exists()
