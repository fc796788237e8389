"""What TRL trains on: each picture with the prompt, made when it is asked for."""

import io
from typing import Any

from PIL import Image

from caprl_core.data.images import prepare_image
from caprl_core.recipe.training import PolicyRecipe
from caprl_core.training.questions import TaughtSet


def task_dataset(taught: TaughtSet, policy: PolicyRecipe, *, held_out: bool) -> Any:
    """A `datasets.Dataset` with `prompt` (messages), `image` (RGB, fitted to the recipe), `key` and `held_out`.

    Pictures stay in a memory-mapped file and are decoded one by one.
    """
    from datasets import Dataset  # noqa: PLC0415 - seconds to import

    messages: list[dict[str, str]] = []
    if policy.prompt.system is not None:
        messages.append({"role": "system", "content": policy.prompt.system})
    messages.append({"role": "user", "content": policy.prompt.text})

    def made(rows: dict[str, list[Any]]) -> dict[str, list[Any]]:
        count = len(rows["key"])
        return {
            "prompt": [messages] * count,
            "image": [_seen(data, policy) for data in rows["picture"]],
            "key": rows["key"],
            "held_out": [held_out] * count,
        }

    return Dataset.from_file(str(taught.arrow)).with_transform(made)


def _seen(data: bytes, policy: PolicyRecipe) -> Image.Image:
    """The picture as an engine would see it; it was checked when the set was taken over."""
    with Image.open(io.BytesIO(prepare_image(data, policy.image, "bmp").encoded)) as picture:
        return picture.convert("RGB")
