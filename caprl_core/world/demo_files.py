"""What the demo works on: pictures, a ShareGPT4V-style annotation file, a tiny model and a recipe."""

import importlib.util
import json
from pathlib import Path
from typing import NamedTuple

import yaml

from caprl_core.errors import BadInputError
from caprl_core.world.pictures import hostile_files, write_pictures
from caprl_core.world.tiny_captioner import build_tiny_captioner

RECIPE = Path(__file__).resolve().parents[2] / "configs" / "demo.yaml"
PREFIX = "drawn/pictures"
"""How the annotations call the folder of pictures."""
SHARD_SAMPLES = 16
FLUSH_S = 0.2
"""Seconds between flushes of the log: the demo kills its run after a second or two and wants to find some of it."""


class DemoFiles(NamedTuple):
    """Where everything lies. `records` is what the plan will hold."""

    pictures: Path
    annotations: Path
    model: Path
    recipe: Path
    records: int


def write_demo_files(folder: Path, *, count: int, dataset: str, endpoint: str, engine: str) -> DemoFiles:
    """Write everything into `folder`; `count` good pictures plus the bad ones. Raises `BadInputError`."""
    pictures = folder / "pictures"
    sentences: dict[str, str] = write_pictures(pictures, count)
    for name, data in hostile_files().items():
        (pictures / name).write_bytes(data)
        sentences[name] = f"A file called {name}."
    sentences["not-there.jpg"] = "A picture that is missing."
    names = [f"{PREFIX}/{name}" for name in sentences] + ["../../../../etc/passwd"]
    captions = [*sentences.values(), "A path that leads out of its folder."]
    annotations = folder / "annotations.json"
    annotations.write_text(json.dumps([_record(n, i, c) for n, (i, c) in enumerate(zip(names, captions, strict=True))]))
    model = build_tiny_captioner(folder / "model")
    recipe = folder / "recipe.yaml"
    recipe.write_text(_recipe(annotations, pictures, model, dataset, endpoint, engine))
    return DemoFiles(pictures, annotations, model, recipe, len(names))


def best_engine() -> str:
    """`vllm` where it is installed, else `transformers`."""
    return "vllm" if importlib.util.find_spec("vllm") is not None else "transformers"


def _record(number: int, image: str, caption: str) -> dict[str, object]:
    """One object of the ShareGPT4V format."""
    return {
        "id": str(number),
        "image": image,
        "conversations": [
            {"from": "human", "value": "<image>\nWhat do you see?"},
            {"from": "gpt", "value": caption},
        ],
    }


def _recipe(annotations: Path, pictures: Path, model: Path, dataset: str, endpoint: str, engine: str) -> str:
    """`configs/demo.yaml` with this run's places in it."""
    try:
        recipe = yaml.safe_load(RECIPE.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadInputError(f"{RECIPE}: {error.strerror}; run the demo from a clone of the repository") from error
    recipe["sources"] = [
        {"name": "drawn", "kind": "sharegpt4v", "uri": str(annotations), "roots": {PREFIX: str(pictures)}}
    ]
    recipe["dataset"]["shard_samples"] = SHARD_SAMPLES
    execution = recipe["execution"]
    execution["output"] = dataset
    execution["storage"]["endpoint"] = endpoint
    execution["engine"] |= {"kind": engine, "model_path": str(model), "concurrency": 4}
    execution["runner"]["flush_s"] = FLUSH_S
    return yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True)
