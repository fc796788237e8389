"""The same recipe with its dataset somewhere else."""

from typing import TypeVar

from caprl_core.recipe.models import CaptionRecipe
from caprl_core.recipe.prism import PrismRecipe
from caprl_core.recipe.qa import QaRecipe

Recipe = TypeVar("Recipe", CaptionRecipe, QaRecipe, PrismRecipe)


def relocated(recipe: Recipe, output: str | None) -> Recipe:
    """`recipe` with `execution.output` replaced, unless `output` is None. Identity does not change."""
    if output is None:
        return recipe
    execution = recipe.execution.model_copy(update={"output": output})
    return recipe.model_copy(update={"execution": execution})
