"""vLLM with a cache of prepared images, as the answer stage runs it: many requests about an image prepare it once."""

import asyncio
import importlib.util
from collections.abc import Callable
from pathlib import Path

import pytest

from caprl_core.engines.protocol import Request, Sampling
from caprl_core.engines.vllm import VllmEngine
from caprl_core.recipe.models import EngineExecution, ModelRecipe

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.xdist_group("vllm"),
    pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed"),
]


async def test_an_image_is_prepared_once_and_again_if_the_core_has_lost_it(
    tiny_model: Path, tiny_recipe: ModelRecipe, draw: Callable
) -> None:
    settings = EngineExecution(
        kind="vllm",
        model_path=str(tiny_model),
        concurrency=16,
        max_model_len=2048,
        extra={"mm_processor_cache_gb": 0.1},
    )
    engine = VllmEngine(tiny_recipe, settings)
    await engine.start()
    try:
        greedy = Sampling(temperature=0, max_tokens=3)

        async def answers(round_: int) -> list[str]:
            # Each a picture of its own object: what is shared is found by content.
            asks = [Request(f"{round_}/{n}", f"Is it {n % 4}?", greedy, (draw(1, 280, 140),)) for n in range(16)]
            return [reply.text for reply in await asyncio.gather(*(engine.generate(request) for request in asks))]

        first = await answers(0)
        assert first[:4] * 4 == first
        known = engine._llm.renderer.stat_mm_cache()
        assert (known.queries, known.queries - known.hits) == (16, 1)
        # The core forgets its images; the front end believes it has them still.
        await engine._llm.engine_core.reset_mm_cache_async()
        assert await answers(1) == first
    finally:
        await engine.close()
