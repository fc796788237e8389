"""A small real dataset: drawn pictures in a folder, a recipe, a plan on a store."""

from pathlib import Path
from typing import Any

from PIL import Image

from caprl_core.captioning.stage import CaptionStage
from caprl_core.recipe.models import CaptionRecipe
from caprl_core.shards.dataset import Dataset, create_dataset
from caprl_core.shards.lane import Lane
from caprl_core.shards.plan import write_plan
from caprl_core.storage.store import Store


def draw_pictures(folder: Path, count: int) -> Path:
    """`count` different 56x56 pictures, JPEG and PNG in turn."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        picture = Image.new("RGB", (56, 56), (number * 37 % 256, number * 91 % 256, number * 53 % 256))
        picture.putpixel((number % 56, number // 56 % 56), (255, 255, 255))
        picture.save(folder / f"picture-{number:04d}.{'jpg' if number % 2 else 'png'}")
    return folder


def recipe_for(images: Path, output: str, **changes: Any) -> CaptionRecipe:
    """A recipe over a folder of images; `changes` are dotted paths with `__` for the dot."""
    values: dict[str, Any] = {
        "name": "drawn",
        "sources": [{"name": "folder", "kind": "folder", "uri": str(images)}],
        "dataset": {"shard_samples": 20},
        "model": {"name": "test/echo"},
        "prompt": {"id": "plain", "text": "Please describe this image in detail."},
        "sampling": {"max_tokens": 64},
        "checks": {"max_attempts": 2},
        "execution": {
            "output": output,
            "engine": {"kind": "transformers"},
            "runner": {"flush_s": 0.05, "decode_workers": 1},
        },
    }
    for path, value in changes.items():
        *parents, last = path.split("__")
        place = values
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = value
    return CaptionRecipe.model_validate(values)


def planned(recipe: CaptionRecipe) -> Dataset:
    """Plan a recipe on its output."""
    store = Store(recipe.execution.output, recipe.execution.storage)
    return create_dataset(recipe, store, write_plan(recipe, store))


def lane_for(recipe: CaptionRecipe, dataset: Dataset, engine: Any) -> Lane:
    """A lane with a given engine."""
    return Lane(recipe, dataset, CaptionStage(recipe), lambda _: engine)
