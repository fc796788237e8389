"""Datasets made by the real lane for the tests of exports and downloads."""

from pathlib import Path
from typing import Any

from caprl_core.engines.protocol import Request
from caprl_core.recipe.models import CaptionRecipe
from caprl_core.shards.dataset import Dataset
from caprl_core.shards.progress import unfinished_units
from support.drawn_dataset import draw_pictures, lane_for, planned, recipe_for
from support.echo_engine import EchoEngine, caption_of


def answer_some_twice(request: Request) -> str:
    """One sample in four needs a second attempt: its first reply is empty."""
    twice = int(request.images[0].sha256[:2], 16) % 4 == 0
    return "" if twice and request.request_id.split("/")[1] == "1" else caption_of(request)


def annotate(recipe: CaptionRecipe, dataset: Dataset, shards: int | None = None) -> None:
    """Work through the first `shards` unfinished shards, or all."""
    with lane_for(recipe, dataset, EchoEngine(16, answer=answer_some_twice)) as lane:
        for unit in unfinished_units(dataset)[:shards]:
            lane.run(unit)


def made(folder: Path, output: str, pictures: int = 50, shards: int | None = None, **changes: Any) -> Dataset:
    """A dataset of drawn pictures, annotated; 20 samples a shard."""
    images = folder / "pictures"
    if not images.exists():
        draw_pictures(images, pictures)
        (images / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no picture at all")
    recipe = recipe_for(images, output, **changes)
    dataset = planned(recipe)
    annotate(recipe, dataset, shards)
    return dataset
