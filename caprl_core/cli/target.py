"""What a reading command is pointed at: a recipe, or the address of a dataset that somebody else made."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

if TYPE_CHECKING:
    from caprl_core.recipe.models import CaptionRecipe
    from caprl_core.storage.store import Store

TargetArgument = Annotated[
    str,
    typer.Argument(help="Recipe file (.yaml), or where a dataset lies: a folder or `s3://` prefix.", metavar="DATASET"),
]


class Target(NamedTuple):
    """The store of a dataset, and the recipe when that was given."""

    store: "Store"
    recipe: "CaptionRecipe | None"


def open_target(text: str) -> Target:
    """Raises `BadInputError` for a recipe that cannot be read, or a folder that is not there."""
    from caprl_core.errors import BadInputError
    from caprl_core.recipe.factory import FactoryRecipe
    from caprl_core.recipe.load import load_any_recipe
    from caprl_core.recipe.prism import PrismRecipe
    from caprl_core.recipe.qa import QaRecipe
    from caprl_core.recipe.reward import RewardRecipe
    from caprl_core.recipe.training import TrainingRecipe
    from caprl_core.storage.store import Store

    if text.endswith((".yaml", ".yml")):
        recipe = load_any_recipe(text)
        if isinstance(recipe, QaRecipe):
            folders = [f"{recipe.execution.output}/{stage}" for stage in ("generate", "extract", "answer")]
            raise BadInputError(
                f"{text} is a question set, whose stages are datasets of their own: {', '.join(folders)}"
            )
        if isinstance(recipe, RewardRecipe):
            raise BadInputError(f"{text} is a reward, which has no dataset; see `caprl reward`")
        if isinstance(recipe, TrainingRecipe):
            raise BadInputError(f"{text} trains a captioner, which is no dataset; see `caprl train`")
        if isinstance(recipe, PrismRecipe):
            folders = [f"{recipe.execution.output}/{stage}" for stage in ("captions", "judge")]
            raise BadInputError(
                f"{text} is an evaluation, whose stages are datasets of their own: {', '.join(folders)}; for its "
                "scores see `caprl prism report`"
            )
        if isinstance(recipe, FactoryRecipe):
            raise BadInputError(f"{text} is a whole factory; name the recipe of one of its parts")
        return Target(Store(recipe.execution.output, recipe.execution.storage), recipe)
    if "://" not in text and not Path(text).expanduser().is_dir():
        # Opening a local store makes its folder, which is wrong for a mistyped name.
        raise BadInputError(f"{text}: no such folder, and no recipe (.yaml)")
    return Target(Store(text), None)
