"""`caprl init-vlm`: what it prints, writes and ends with."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig

from support.tiny_reader import build_tiny_reader


def caprl(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "caprl_core.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `captioner`, a Qwen2.5-VL, and `reader`, a Qwen2 of its size."""
    return build_tiny_reader(tmp_path_factory.mktemp("models")).parent


def test_a_starting_checkpoint_is_made_and_described(models: Path, tmp_path: Path) -> None:
    given = ("--vision", models / "captioner", "--language", models / "reader")
    done = caprl("init-vlm", *given, "--out", tmp_path / "start", "--seed", "3")
    assert done.returncode == 0, done.stderr
    assert done.stdout == (
        f"{tmp_path / 'start'}: 388,928 parameters in bfloat16 (158,592 of the vision tower, 82,304 fresh from seed 3, "
        "148,032 of the language model)\n"
    )
    assert f"reading {models / 'captioner'}/model.safetensors" in done.stderr
    assert AutoConfig.from_pretrained(tmp_path / "start").dtype == torch.bfloat16
    more = caprl("init-vlm", *given, "-o", tmp_path / "more", "--dtype", "float32", "--json")
    made = json.loads(more.stdout)
    assert made == json.loads((tmp_path / "more/lineage.json").read_text())
    assert (made["merger"]["seed"], made["dtype"], made["converted_tensors"]) == (0, "float32", 0)


def test_what_cannot_be_used_ends_with_2_and_the_reason(models: Path, tmp_path: Path) -> None:
    out = ("--out", tmp_path / "start")
    swapped = caprl("init-vlm", "--vision", models / "reader", "--language", models / "captioner", *out)
    assert swapped.returncode == 2 and "model_type is 'qwen2', not 'qwen2_5_vl'" in swapped.stderr
    given = ("--vision", models / "captioner", "--language", models / "reader")
    dated = caprl("init-vlm", *given, *out, "--vision-revision", "main")
    assert dated.returncode == 2 and "a folder has no revision 'main'" in dated.stderr
    odd = caprl("init-vlm", *given, *out, "--dtype", "int8")
    assert odd.returncode == 2
    assert not (tmp_path / "start").exists()
    there = caprl("init-vlm", *given, "--out", models / "reader")
    assert there.returncode == 2 and "it exists; name a new folder" in there.stderr
    assert not any("Traceback" in one.stderr for one in (swapped, dated, odd, there))
