"""A starting checkpoint says the same in transformers and in vLLM, and what it says depends on the picture."""

import asyncio
import importlib.util
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from caprl_core.data.images import prepare_image
from caprl_core.engines.open import engine_for
from caprl_core.engines.protocol import Reply, Request, Sampling
from caprl_core.pretraining.initialise import initialise
from caprl_core.pretraining.sources import ModelSource
from caprl_core.recipe.models import EngineExecution, ImageRecipe, ModelRecipe
from caprl_core.world.drawing import draw_scene
from caprl_core.world.scene import scenes

Language = Callable[..., Any]
PICTURES = 6


def said(kind: str, folder: Path) -> list[Reply]:
    """Greedy, in float32, about each picture and about none."""
    seen = []
    for scene in scenes("held_out", PICTURES, 0):
        written = io.BytesIO()
        draw_scene(scene, 0).save(written, "PNG")
        seen.append((prepare_image(written.getvalue(), ImageRecipe()),))

    async def ask() -> list[Reply]:
        settings = EngineExecution(kind=kind, model_path=str(folder), max_model_len=1024, concurrency=8)
        engine = engine_for(ModelRecipe(name="initialised", dtype="float32"), settings)
        await engine.start()
        try:
            sampling = Sampling(temperature=0, max_tokens=24)
            return list(
                await asyncio.gather(
                    *(
                        engine.generate(Request(str(number), "Please describe this image in detail.", sampling, images))
                        for number, images in enumerate([*seen, ()])
                    )
                )
            )
        finally:
            await engine.close()

    return asyncio.run(ask())


@pytest.mark.vllm
@pytest.mark.xdist_group("vllm")
@pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed")
@pytest.mark.parametrize("tied", [True, False], ids=["tied head", "own head"])
def test_both_engines_say_the_same_tokens(donor: Any, language: Language, tmp_path: Path, tied: bool) -> None:
    if tied:
        donor.flatten()
    sources = ModelSource.open(str(donor.folder)), ModelSource.open(str(language(tied=tied).folder))
    initialise(*sources, tmp_path / "out", dtype="float32", shard_bytes=300_000)
    assert len(list((tmp_path / "out").glob("*.safetensors"))) > 1
    ours, theirs = said("transformers", tmp_path / "out"), said("vllm", tmp_path / "out")
    assert [reply.token_ids for reply in ours] == [reply.token_ids for reply in theirs]
    assert all(len(reply.token_ids) > 1 for reply in ours)
    # Models of random weights: pictures tell some replies apart, seldom all.
    assert len({reply.token_ids for reply in ours}) > 1
