"""A short training run of the embedded world: its question sets, its recipe, and running it in a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from caprl_core.world.question_set import write_question_set

ROOT = Path(__file__).resolve().parents[2]
RECIPE = ROOT / "configs" / "grpo-world.yaml"


def world_recipe(folder: Path, **changes: Any) -> Path:
    """A recipe file in `folder`: 4 pictures x 4 captions a step, 6 steps; `changes` by dotted path with `__`."""
    recipe = yaml.safe_load(RECIPE.read_text())
    recipe["questions"] = {
        "train": str(write_question_set(folder / "train.parquet", "train", 32)),
        "held_out": str(write_question_set(folder / "held_out.parquet", "held_out", 6)),
        "pictures": 6,
    }
    recipe["reward"]["execution"]["engine"]["model_path"] = str(ROOT / "caprl_core/world/weights/reader")
    recipe["grpo"] |= {"groups": 4, "rollouts": 4}
    recipe["steps"] = 6
    recipe["evaluation"] |= {"every": 3, "watched": 2}
    recipe["execution"] |= {
        "output": str(folder / "run"),
        "model_path": str(ROOT / "caprl_core/world/weights/captioner"),
        "micro_batch": 16,
        "evaluation_batch": 6,
        "checkpoint_every": 2,
        "threads": 1,
    }
    for path, value in changes.items():
        *parents, last = path.split("__")
        place = recipe
        for name in parents:
            place = place.setdefault(name, {})
        place[last] = value
    file = folder / "recipe.yaml"
    file.write_text(yaml.safe_dump(recipe, sort_keys=False))
    return file


def training_process(recipe: Path, **settings: Any) -> subprocess.Popen[str]:
    """One training process, begun; its events are JSON lines on standard output."""
    return subprocess.Popen(
        [sys.executable, "-m", "caprl_core.training", "--recipe", str(recipe)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONWARNINGS": "ignore", "HF_HUB_OFFLINE": "1"},
        **settings,
    )


def lines(path: Path) -> list[dict[str, Any]]:
    """The lines of a curve."""
    return [json.loads(line) for line in path.read_text().splitlines()]
