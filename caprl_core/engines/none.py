"""The engine of stages that ask nothing: it has nothing to load, and nobody may ask it."""

from typing import Literal

from caprl_core.engines.protocol import EngineInfo, Reply, Request

CONCURRENCY = 64
"""As an engine's usual default: what the runner's bounds on samples under way are made from."""


class NoEngine:
    """For stages whose `asks` is false."""

    concurrency = CONCURRENCY
    image_encoding: Literal["png", "bmp"] = "bmp"

    async def start(self) -> EngineInfo:
        """Nobody: rows of such stages name no engine."""
        return EngineInfo(engine="none", engine_version="", model="none", model_revision=None)

    async def generate(self, request: Request) -> Reply:
        """Raises `RuntimeError`: a stage that asks says so."""
        raise RuntimeError(f"request {request.request_id}: this stage was declared to ask nothing")

    async def close(self) -> None:
        """Nothing was started."""
