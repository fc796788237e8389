"""The ideal that stages are compared with: workers that pull finished requests through an engine, and nothing else."""

import asyncio
import time
from collections.abc import Iterable

from caprl_core.engines.openai import OpenAIEngine
from caprl_core.engines.protocol import Engine, Request
from caprl_core.recipe.models import EngineExecution, ModelRecipe


async def closed_loop(engine: Engine, requests: Iterable[Request]) -> float:
    """Seconds until all requests are answered, `engine.concurrency` in flight. The engine has been started."""
    waiting = iter(requests)

    async def work() -> None:
        for request in waiting:
            await engine.generate(request)

    started = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for _ in range(engine.concurrency):
            group.create_task(work())
    return time.monotonic() - started


async def served_closed_loop(model: ModelRecipe, execution: EngineExecution, requests: Iterable[Request]) -> float:
    """The same through an OpenAI-compatible server, connected to before and left after."""
    engine = OpenAIEngine(model, execution)
    await engine.start()
    try:
        return await closed_loop(engine, requests)
    finally:
        await engine.close()
