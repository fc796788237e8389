"""What the demo works on: pictures, a ShareGPT4V-style annotation file, a tiny model and a recipe."""

import importlib.util
import json
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from caprl_core.errors import BadInputError
from caprl_core.world.pictures import hostile_files, write_pictures
from caprl_core.world.tiny_captioner import build_tiny_captioner

RECIPE = Path(__file__).resolve().parents[2] / "configs" / "demo.yaml"
PREFIX = "drawn/pictures"
"""How the annotations call the folder of pictures."""
SHARD_SAMPLES = 16
CONCURRENCY = 4
"""Few at once, so that a run of a few dozen pictures lasts long enough to be killed in the middle."""
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
    files = DemoFiles(pictures, annotations, folder / "model", folder / "recipe.yaml", len(names))
    build_tiny_captioner(files.model)
    recipe = _recipe(files)
    recipe["execution"]["output"] = dataset
    recipe["execution"]["storage"]["endpoint"] = endpoint
    recipe["execution"]["engine"]["kind"] = engine
    files.recipe.write_text(yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True))
    return files


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


def _recipe(files: DemoFiles) -> dict[str, Any]:
    """`configs/demo.yaml` over these files."""
    try:
        recipe: dict[str, Any] = yaml.safe_load(RECIPE.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadInputError(f"{RECIPE}: {error.strerror}; run the demo from a clone of the repository") from error
    roots = {PREFIX: str(files.pictures)}
    recipe["sources"] = [{"name": "drawn", "kind": "sharegpt4v", "uri": str(files.annotations), "roots": roots}]
    recipe["dataset"]["shard_samples"] = SHARD_SAMPLES
    recipe["execution"]["engine"] |= {"model_path": str(files.model), "concurrency": CONCURRENCY}
    recipe["execution"]["runner"]["flush_s"] = FLUSH_S
    return recipe
