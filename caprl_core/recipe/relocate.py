"""The same recipe with its dataset somewhere else."""

from caprl_core.recipe.models import CaptionRecipe


def relocated(recipe: CaptionRecipe, output: str | None) -> CaptionRecipe:
    """`recipe` with `execution.output` replaced, unless `output` is None. Identity does not change."""
    if output is None:
        return recipe
    execution = recipe.execution.model_copy(update={"output": output})
    return recipe.model_copy(update={"execution": execution})
