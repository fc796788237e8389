"""Started by the vLLM tests and then killed: an engine that answers without end, or, told so, is still loading."""

import asyncio
import sys

from caprl_core.engines.protocol import Request, Sampling
from caprl_core.engines.vllm import VllmEngine
from caprl_core.recipe.models import EngineExecution, ModelRecipe


async def main() -> None:
    model = ModelRecipe(name="tiny")
    engine = VllmEngine(model, EngineExecution(kind="vllm", model_path=sys.argv[1], concurrency=4))
    try:
        await engine.start()
        endless = [
            engine.generate(Request(str(n), f"Talk {n}.", Sampling(temperature=0, max_tokens=3000))) for n in range(4)
        ]
        first = asyncio.gather(*endless)
        await asyncio.sleep(0.5)
        print("answering", flush=True)
        await first
        await asyncio.sleep(600)
    finally:
        await engine.close()


if __name__ == "__main__":
    asyncio.run(main())
