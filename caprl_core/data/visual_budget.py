"""The size at which a Qwen-VL captioner sees an image: sides in whole visual tokens, area within a pixel budget."""

import math

from caprl_core.data.reasons import Reason
from caprl_core.errors import SampleFailedError
from caprl_core.recipe.models import ImageRecipe

# The processor's own choice is final under ordinary budgets. Under one of some tens of tokens the long side of a strip
# one token wide is over budget at first, and each round halves the excess: 15 x 1127 px at 36 tokens takes 5.
_ROUNDS = 16


def fitted_size(width: int, height: int, recipe: ImageRecipe) -> tuple[int, int]:
    """Width and height in pixels that the model's own processor, given the same budget, leaves as they are.

    The rule is Qwen2-VL's: round each side to a multiple of `recipe.factor`; over `max_pixels` shrink rounding down,
    under `min_pixels` grow rounding up. Raises SampleFailedError IMAGE_EXTREME_ASPECT when the sides' ratio exceeds
    `recipe.max_aspect`, before or after fitting: 20000 x 100 px fits as 14140 x 56, which is 252 : 1.

    Where `min_pixels` and `max_pixels` are so close that the rule itself never settles, this is its first choice.
    """
    _check_aspect(width, height, recipe, "the image")
    first = fitted = _one_round(width, height, recipe)
    for _ in range(_ROUNDS):
        _check_aspect(*fitted, recipe, "the image fitted to the model's pixel budget")
        again = _one_round(*fitted, recipe)
        if again == fitted:
            return fitted
        fitted = again
    return first


def _one_round(width: int, height: int, recipe: ImageRecipe) -> tuple[int, int]:
    factor, area = recipe.factor, width * height
    # Python's round halves to even, as the model's processor does: 42 px are 2 tokens of 28, and 70 px are 2 as well.
    across, down = round(width / factor), round(height / factor)
    if across * down * factor**2 > recipe.max_pixels:
        shrink = math.sqrt(area / recipe.max_pixels)
        # Divided in this order, because other orders differ in the last bit and so by a whole token at the edge.
        across = max(1, math.floor(width / shrink / factor))
        down = max(1, math.floor(height / shrink / factor))
    elif across * down * factor**2 < recipe.min_pixels:
        grow = math.sqrt(recipe.min_pixels / area)
        across = math.ceil(width * grow / factor)
        down = math.ceil(height * grow / factor)
    return across * factor, down * factor


def _check_aspect(width: int, height: int, recipe: ImageRecipe, what: str) -> None:
    ratio = max(width, height) / min(width, height)
    if ratio > recipe.max_aspect:
        raise SampleFailedError(
            Reason.IMAGE_EXTREME_ASPECT,
            f"{what} is {width} x {height} px, a ratio of {ratio:.1f}; at most {recipe.max_aspect:g} is accepted",
        )
