"""Prompts that come with the package: a recipe names one, and its whole text becomes identity."""

from collections.abc import Callable
from importlib import resources
from typing import Any

import yaml

from caprl_core.recipe.models import PromptRecipe


def shipped_prompt(package: str, name: str) -> PromptRecipe:
    """The prompt `prompts/<name>.yaml` of a package. Raises `ValueError` where there is none of that name."""
    return PromptRecipe.model_validate(_read(package, name))


def shipped_in(package: str) -> Callable[[Any], Any]:
    """A validator that takes a text for the name of a prompt of `package`, and leaves anything else as it is."""

    def validate(value: Any) -> Any:
        return _read(package, value) if isinstance(value, str) else value

    return validate


def _read(package: str, name: str) -> dict[str, Any]:
    file = resources.files(package) / "prompts" / f"{name}.yaml"
    names = sorted(item.name.removesuffix(".yaml") for item in file.parent.iterdir())  # type: ignore[attr-defined]
    if name not in names:
        raise ValueError(f"no prompt {name!r} is shipped; there are {', '.join(names)}, or give id and text")
    return {"id": name, **yaml.safe_load(file.read_text("utf-8"))}
