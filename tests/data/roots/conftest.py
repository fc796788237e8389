"""An image reader for any sources and settings, closed after the test."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from caprl_core.data.roots import ImageReader
from caprl_core.data.sample import PlannedSample
from caprl_core.recipe.models import CaptionRecipe

OpenReader = Callable[..., "Reading"]


class Reading:
    """`await reading("path")` gives the bytes, as the runner would read them."""

    def __init__(self, reader: ImageReader) -> None:
        self.reader = reader

    async def __call__(self, image: str, problem: str | None = None) -> bytes:
        sample = PlannedSample(key="k", shard=0, index=0, source="src", image=image, problem=problem)
        return await self.reader.read(sample)


@pytest.fixture
def open_reader() -> Iterator[OpenReader]:
    readers: list[ImageReader] = []

    def make(kind: str, uri: str, *, max_bytes: int = 10_000, image_field: str | None = None, **rest: Any) -> Reading:
        roots = rest.pop("roots", {})
        source = {"name": "src", "kind": kind, "uri": uri, "roots": roots, "image_field": image_field}
        recipe = CaptionRecipe.model_validate(
            {
                "name": "test",
                "sources": [source],
                "model": {"name": "m"},
                "prompt": {"id": "p", "text": "t"},
                "image": {"max_bytes": max_bytes},
                "execution": {"output": "out", "engine": {"kind": "transformers"}, **rest},
            }
        )
        readers.append(ImageReader(recipe))
        return Reading(readers[-1])

    yield make
    for reader in readers:
        reader.close()
