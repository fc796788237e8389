"""The captioner's own processor finds nothing left to resize."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caprl_core.data.reasons import Reason
from caprl_core.data.visual_budget import fitted_size
from caprl_core.errors import SampleFailedError
from caprl_core.recipe.models import ImageRecipe

sides = st.integers(min_value=1, max_value=20_000)
recipes = st.sampled_from(
    [
        ImageRecipe(),
        ImageRecipe(min_pixels=56 * 56, max_pixels=14 * 14 * 4 * 1280),
        ImageRecipe(min_pixels=256 * 28 * 28, max_pixels=16_384 * 28 * 28),
        ImageRecipe(factor=32, min_pixels=64 * 32 * 32, max_pixels=256 * 32 * 32),
        ImageRecipe(min_pixels=9 * 28 * 28, max_pixels=36 * 28 * 28),
    ]
)


@pytest.fixture(scope="module")
def smart_resize():
    """The function that Qwen2-VL's and Qwen2.5-VL's image processors call, from the installed transformers."""
    module = pytest.importorskip("transformers.models.qwen2_vl.image_processing_pil_qwen2_vl")

    def resize(size: tuple[int, int], recipe: ImageRecipe) -> tuple[int, int]:
        down, across = module.smart_resize(
            size[1], size[0], factor=recipe.factor, min_pixels=recipe.min_pixels, max_pixels=recipe.max_pixels
        )
        return across, down

    return resize


@settings(max_examples=1500, deadline=None)
@given(width=sides, height=sides, recipe=recipes)
def test_the_models_processor_leaves_a_fitted_size_as_it_is(smart_resize, width, height, recipe):
    try:
        fitted = fitted_size(width, height, recipe)
    except SampleFailedError as error:
        assert error.reason == Reason.IMAGE_EXTREME_ASPECT
        return
    assert smart_resize(fitted, recipe) == fitted


@settings(max_examples=1500, deadline=None)
@given(width=sides, height=sides, recipe=recipes)
def test_a_fitted_size_is_the_one_the_processor_would_have_chosen(smart_resize, width, height, recipe):
    try:
        fitted = fitted_size(width, height, recipe)
        chosen = smart_resize((width, height), recipe)
        settled = smart_resize(chosen, recipe)
    except (SampleFailedError, ValueError):
        return
    if settled == chosen:
        assert fitted == chosen


@settings(max_examples=500, deadline=None)
@given(width=sides, height=sides, recipe=recipes)
def test_turning_an_image_turns_its_fitted_size(width, height, recipe):
    def outcome(across: int, down: int) -> object:
        try:
            return fitted_size(across, down, recipe)
        except SampleFailedError as error:
            return error.reason

    one, other = outcome(width, height), outcome(height, width)
    assert one == (other[::-1] if isinstance(other, tuple) else other)


def test_a_budget_too_narrow_to_settle_takes_the_processors_first_choice(smart_resize):
    recipe = ImageRecipe(min_pixels=9 * 28 * 28, max_pixels=9 * 28 * 28)
    assert fitted_size(1, 2, recipe) == smart_resize((1, 2), recipe) == (84, 140)


def test_an_image_that_would_only_become_too_long_by_fitting_is_refused():
    # 20000 x 100 px is exactly 200 : 1, but rounding its short side down makes 14140 x 56, which the processor refuses.
    with pytest.raises(SampleFailedError, match="fitted to the model's pixel budget") as caught:
        fitted_size(20_000, 100, ImageRecipe())
    assert caught.value.reason == Reason.IMAGE_EXTREME_ASPECT


@pytest.mark.parametrize(
    ("size", "fitted"), [((42, 70), (56, 56)), ((84, 84), (84, 84)), ((1, 1), (56, 56)), ((640, 480), (644, 476))]
)
def test_known_sizes(size, fitted):
    assert fitted_size(*size, ImageRecipe()) == fitted
