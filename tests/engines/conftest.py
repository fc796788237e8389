"""A tiny model, a picture ready for an engine, and engines' settings."""

import hashlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw

from caprl_core.data.sample import PreparedImage
from caprl_core.recipe.models import EngineExecution, ModelRecipe
from caprl_core.world.tiny_captioner import build_tiny_captioner


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_captioner(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="session")
def tiny_recipe() -> ModelRecipe:
    return ModelRecipe(name="tiny-captioner")


@pytest.fixture(scope="session")
def draw() -> Callable[..., PreparedImage]:
    """`draw(3)` is the third picture, always the same."""

    def picture(number: int, width: int = 196, height: int = 140) -> PreparedImage:
        image = Image.new("RGB", (width, height), (120, 120, 120))
        pen = ImageDraw.Draw(image)
        for place in range(3):
            left, top = (number * 37 + place * 61) % (width - 50), (number * 53 + place * 29) % (height - 50)
            colour = tuple((number * 71 + place * 97 + part * 83) % 256 for part in range(3))
            (pen.ellipse if (number + place) % 2 else pen.rectangle)((left, top, left + 45, top + 45), fill=colour)
        buffer = io.BytesIO()
        image.save(buffer, "PNG")
        data = buffer.getvalue()
        return PreparedImage(
            original=data,
            sha256=hashlib.sha256(data).hexdigest(),
            size=len(data),
            extension="png",
            format="PNG",
            source_width=width,
            source_height=height,
            width=width,
            height=height,
            encoded=data,
        )

    return picture


@pytest.fixture
def openai_settings() -> Callable[..., EngineExecution]:
    """Settings of an `openai` engine that loses patience within a second."""

    def settings(*urls: str, **changes: Any) -> EngineExecution:
        values = {"served_name": "stub", "concurrency": 16, "timeout_s": 5.0, "retries": 3, "dead_after_s": 0.5}
        return EngineExecution(kind="openai", urls=urls, **(values | changes))

    return settings
