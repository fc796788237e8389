"""Low-rank adapters: they learn, the rest does not, a resumed run goes on as if nothing had happened, and the captioner
has them merged in."""

import json
import math
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText

from caprl_core.world.model_folders import committed_model
from support.training_zygote import Zygote
from support.world_training import lines, world_recipe

pytestmark = pytest.mark.timeout(600)  # training, on a machine that may have other work
RANK, ALPHA, STEPS = 8, 16, 4


class Runs(NamedTuple):
    """The same recipe run through, and stopped after two steps and resumed."""

    whole: Path
    resumed: Path
    events: list[dict]


@pytest.fixture(scope="module")
def zygote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zygote]:
    zygote = Zygote(tmp_path_factory.mktemp("told"))
    yield zygote
    zygote.close()


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, zygote: Zygote) -> Runs:
    folder = tmp_path_factory.mktemp("lora")
    changes = {
        "policy__lora": {"rank": RANK, "alpha": ALPHA},
        "optimiser": {"learning_rate": 2e-3, "schedule": "constant"},
        "steps": STEPS,
        "evaluation": {"every": 2, "export": "last"},
        "execution__gradient_checkpointing": True,
    }
    recipe = world_recipe(folder, **changes)
    status, _ = zygote.run(recipe)
    assert status == 0
    whole, resumed = folder / "whole", folder / "run"
    resumed.rename(whole)
    shutil.copytree(whole, resumed)
    shutil.rmtree(resumed / "captioner")
    shutil.rmtree(resumed / f"checkpoints/checkpoint-{STEPS}")
    status, events = zygote.run(recipe)
    assert status == 0
    return Runs(whole, resumed, events)


def adapters(run: Path, step: int) -> dict[str, torch.Tensor]:
    return load_file(run / f"checkpoints/checkpoint-{step}/adapter_model.safetensors")


def test_adapters_learn(runs: Runs) -> None:
    curve = lines(runs.whole / "metrics.jsonl")
    assert [line["step"] for line in curve] == [1, 2, 3, 4]
    for line in curve:
        assert math.isfinite(line["loss"])
        assert line["grad_norm"] > 0
    # The reference is the start, seen by switching the adapters off.
    assert abs(curve[0]["kl"]) < 1e-6
    assert curve[-1]["kl"] > 1e-4
    earlier, later = adapters(runs.whole, 2), adapters(runs.whole, STEPS)
    assert earlier.keys() == later.keys()
    assert all(not torch.equal(earlier[name], later[name]) for name in later)
    # Those that look at the picture and those that speak.
    assert {"visual" in name for name in later} == {True, False}


def test_a_checkpoint_holds_nothing_but_adapters(runs: Runs) -> None:
    checkpoint = runs.whole / f"checkpoints/checkpoint-{STEPS}"
    assert not (checkpoint / "model.safetensors").exists()
    assert all(RANK in weights.shape for weights in adapters(runs.whole, STEPS).values())


def test_a_resumed_run_goes_on_as_if_nothing_had_happened(runs: Runs) -> None:
    begin = runs.events[0]
    assert (begin["event"], begin["step"], begin["resumed"]) == ("begin", 2, True)
    for ours, theirs in zip(lines(runs.resumed / "metrics.jsonl"), lines(runs.whole / "metrics.jsonl"), strict=True):
        assert ours["step"] == theirs["step"]
        for name in ("loss", "reward", "kl", "entropy", "grad_norm", "learning_rate"):
            assert ours[name] == pytest.approx(theirs[name], rel=1e-5, abs=1e-7), (ours["step"], name)
    for step in range(1, STEPS + 1):
        assert captions(runs.resumed, step) == captions(runs.whole, step)
    ours, theirs = adapters(runs.resumed, STEPS), adapters(runs.whole, STEPS)
    assert all(torch.allclose(ours[name], theirs[name], rtol=1e-4, atol=1e-6) for name in theirs)


def captions(run: Path, step: int) -> list[tuple[str, str]]:
    rows = pq.read_table(run / f"rollouts/step-{step:06d}.parquet", columns=["key", "caption"]).to_pylist()
    return [(row["key"], row["caption"]) for row in rows]


def test_the_captioner_is_the_start_with_the_adapters_merged_in(runs: Runs) -> None:
    start, exported = (loaded(folder) for folder in (committed_model("captioner"), runs.whole / "captioner"))
    pairs: dict[str, dict[str, torch.Tensor]] = {}
    for name, weights in adapters(runs.whole, STEPS).items():
        layer, side = re.fullmatch(r"base_model\.model\.(.+)\.lora_([AB])\.weight", name).groups()
        pairs.setdefault(f"{layer}.weight", {})[side] = weights
    assert pairs.keys() <= exported.keys() == start.keys()
    for name, weights in start.items():
        if name in pairs:
            merged = weights + ALPHA / RANK * pairs[name]["B"] @ pairs[name]["A"]
            assert torch.allclose(exported[name], merged, rtol=1e-5, atol=1e-6), name
            assert not torch.equal(exported[name], weights), name
        else:
            assert torch.equal(exported[name], weights), name  # embeddings, norms, biases: never touched


def loaded(folder: Path) -> dict[str, torch.Tensor]:
    model, found = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
    assert not any(found.values())
    return dict(model.named_parameters())


def test_the_captioner_needs_no_adapters(runs: Runs) -> None:
    names = {path.name for path in (runs.whole / "captioner").iterdir()}
    assert not any("adapter" in name for name in names)
    config = json.loads((runs.whole / "captioner/config.json").read_text())
    assert config["architectures"] == ["Qwen2_5_VLForConditionalGeneration"]
    assert "rank 8, alpha 16" in (runs.whole / "captioner/README.md").read_text()
