"""Two training processes on a CPU learn what one learns: the same captions, rewards and gradients."""

import json
import subprocess
from pathlib import Path
from typing import NamedTuple

import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

from caprl_core.recipe.load import load_training_recipe
from caprl_core.training.launch import training_command, training_environment
from support.world_training import ROOT, lines, world_recipe

pytestmark = pytest.mark.timeout(600)  # three training processes on two cores that may have other work
STEPS, LEARNING_RATE = 3, 3e-4


class Runs(NamedTuple):
    one: Path
    two: Path
    events: list[dict]
    """Of the two."""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    def run(processes: int, micro_batch: int) -> tuple[Path, list[dict]]:
        folder = tmp_path_factory.mktemp(f"processes-{processes}")
        file = world_recipe(
            folder,
            # Three groups of four: the second is written by both processes.
            grpo__groups=3,
            optimiser={"learning_rate": LEARNING_RATE, "schedule": "constant"},
            steps=STEPS,
            evaluation__every=STEPS,
            execution__processes=processes,
            execution__micro_batch=micro_batch,
            execution__evaluation_batch=4,  # six pictures do not fill two batches of two processes
            execution__checkpoint_every=STEPS,
        )
        recipe = load_training_recipe(file)
        done = subprocess.run(
            training_command(recipe, file),
            env=training_environment(recipe) | {"PYTHONWARNINGS": "ignore", "HF_HUB_OFFLINE": "1"},
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        told = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"event"')]
        return folder / "run", told

    one, _ = run(1, 12)
    two, events = run(2, 2)
    return Runs(one, two, events)


def rows(run: Path, name: str) -> list[dict]:
    return pq.read_table(run / f"{name}.parquet").to_pylist()


@pytest.mark.parametrize("step", range(1, STEPS + 1))
def test_the_rollouts_are_the_same(runs: Runs, step: int) -> None:
    name = f"rollouts/step-{step:06d}"
    ours, theirs = rows(runs.two, name), rows(runs.one, name)
    assert len(theirs) == 12
    for mine, other in zip(ours, theirs, strict=True):
        # Captions, places in the group, questions drawn, replies: everything but the last digits of the advantage.
        assert mine.pop("advantage") == pytest.approx(other.pop("advantage"), abs=1e-6)
        assert mine == other


def test_the_curve_is_the_same(runs: Runs) -> None:
    curve = list(zip(lines(runs.two / "metrics.jsonl"), lines(runs.one / "metrics.jsonl"), strict=True))
    assert [ours["step"] for ours, _ in curve] == [1, 2, 3]
    for ours, theirs in curve:
        assert ours["reward"] == theirs["reward"]
        assert ours["captions"] == theirs["captions"]
        # Sums of the same numbers in another order.
        for name in ("loss", "grad_norm"):
            assert ours[name] == pytest.approx(theirs[name], rel=1e-4, abs=1e-6), name
        # The trainer tells these as the mean over micro-batches, of which each has tokens of its own number.
        for name in ("kl", "entropy"):
            assert ours[name] == pytest.approx(theirs[name], rel=0.2, abs=1e-6), name


@pytest.mark.parametrize("step", [0, STEPS])
def test_each_held_out_picture_is_captioned_once(runs: Runs, step: int) -> None:
    name = f"held_out/step-{step:06d}"
    ours, theirs = rows(runs.two, name), rows(runs.one, name)
    assert len({row["key"] for row in ours}) == len(ours) == 6
    assert sorted(ours, key=lambda row: row["key"]) == sorted(theirs, key=lambda row: row["key"])
    assert [line["reward"] for line in lines(runs.two / "held_out.jsonl")] == [
        line["reward"] for line in lines(runs.one / "held_out.jsonl")
    ]


def test_one_of_the_processes_tells_and_writes(runs: Runs) -> None:
    assert [event["event"] for event in runs.events if event["event"] in ("begin", "step", "saved", "done")] == [
        "begin",
        *["step"] * STEPS,
        "saved",
        "done",
    ]
    assert json.loads((runs.two / "run.json").read_text())["processes"] == 2


def test_the_captioners_are_the_same_but_for_rounding(runs: Runs) -> None:
    ours, theirs = (load_file(run / "captioner/model.safetensors") for run in (runs.two, runs.one))
    assert ours.keys() == theirs.keys()
    for name in theirs:
        # AdamW moves each weight by about the learning rate a step whichever way its gradient points, even where that
        # is all rounding: so some weights may part by that much, but hardly any do.
        apart = (ours[name] - theirs[name]).abs()
        assert apart.max() <= 2 * STEPS * LEARNING_RATE * 1.01, name
        assert torch.quantile(apart.flatten().float(), 0.99) < LEARNING_RATE / 100, name
