"""Reads a recipe from YAML; everything wrong with it is said at once, by file, line and dotted path."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from pydantic import ValidationError

from caprl_core.errors import BadInputError
from caprl_core.recipe import environment, problems
from caprl_core.recipe.factory import FactoryRecipe
from caprl_core.recipe.models import CaptionRecipe, Strict
from caprl_core.recipe.prism import PrismRecipe
from caprl_core.recipe.qa import QaRecipe
from caprl_core.recipe.reward import RewardRecipe
from caprl_core.recipe.strict_yaml import MAX_BYTES, dotted, parse
from caprl_core.recipe.training import TrainingRecipe

AnyRecipe = CaptionRecipe | QaRecipe | RewardRecipe | TrainingRecipe | PrismRecipe | FactoryRecipe

TOLD_BY: Mapping[str, type[Strict]] = {
    "answerer": QaRecipe,
    "reader": RewardRecipe,
    "policy": TrainingRecipe,
    "benchmarks": PrismRecipe,
    "annotate": FactoryRecipe,
}
"""A recipe with this key is of that kind; without any of them it is a captioning recipe."""


def load_recipe(path: str | os.PathLike[str]) -> CaptionRecipe:
    """The captioning recipe in the YAML file at `path`, with `${NAME}` in its locations taken from the environment.

    Relative paths inside stay as written: they are relative to the working directory of the run, not to the file.
    Raises `BadInputError` with one line for each problem.
    """
    return cast(CaptionRecipe, _loaded(path, CaptionRecipe))


def load_qa_recipe(path: str | os.PathLike[str]) -> QaRecipe:
    """The question-set recipe in a YAML file; see `load_recipe`."""
    return cast(QaRecipe, _loaded(path, QaRecipe))


def load_reward_recipe(path: str | os.PathLike[str]) -> RewardRecipe:
    """The reward recipe in a YAML file; see `load_recipe`."""
    return cast(RewardRecipe, _loaded(path, RewardRecipe))


def load_training_recipe(path: str | os.PathLike[str]) -> TrainingRecipe:
    """The training recipe in a YAML file; see `load_recipe`."""
    return cast(TrainingRecipe, _loaded(path, TrainingRecipe))


def load_prism_recipe(path: str | os.PathLike[str]) -> PrismRecipe:
    """The recipe of a Prism evaluation in a YAML file; see `load_recipe`."""
    return cast(PrismRecipe, _loaded(path, PrismRecipe))


def load_factory_recipe(path: str | os.PathLike[str]) -> FactoryRecipe:
    """The recipe of a whole factory in a YAML file; see `load_recipe`."""
    return cast(FactoryRecipe, _loaded(path, FactoryRecipe))


def load_any_recipe(path: str | os.PathLike[str]) -> AnyRecipe:
    """The recipe in a YAML file, of whichever kind (see `TOLD_BY`)."""
    return cast(AnyRecipe, _loaded(path, None))


def _loaded(path: str | os.PathLike[str], model: type[Strict] | None) -> Any:
    file = os.fspath(path)
    try:
        with Path(file).open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise BadInputError(f"{file}: cannot read this recipe: {error.strerror or error}") from error
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadInputError(f"{file}: not UTF-8 text (byte {error.start}); is this a recipe?") from error
    return _parsed(text, model, file=file, variables=os.environ)


def parse_recipe(text: str, *, file: str, variables: Mapping[str, str]) -> CaptionRecipe:
    """The recipe in `text`; `file` is its name in messages, `variables` the environment. Raises `BadInputError`."""
    return cast(CaptionRecipe, _parsed(text, CaptionRecipe, file=file, variables=variables))


def parse_qa_recipe(text: str, *, file: str, variables: Mapping[str, str]) -> QaRecipe:
    """The question-set recipe in `text`; see `parse_recipe`."""
    return cast(QaRecipe, _parsed(text, QaRecipe, file=file, variables=variables))


def parse_reward_recipe(text: str, *, file: str, variables: Mapping[str, str]) -> RewardRecipe:
    """The reward recipe in `text`; see `parse_recipe`."""
    return cast(RewardRecipe, _parsed(text, RewardRecipe, file=file, variables=variables))


def parse_training_recipe(text: str, *, file: str, variables: Mapping[str, str]) -> TrainingRecipe:
    """The training recipe in `text`; see `parse_recipe`."""
    return cast(TrainingRecipe, _parsed(text, TrainingRecipe, file=file, variables=variables))


def parse_prism_recipe(text: str, *, file: str, variables: Mapping[str, str]) -> PrismRecipe:
    """The Prism recipe in `text`; see `parse_recipe`."""
    return cast(PrismRecipe, _parsed(text, PrismRecipe, file=file, variables=variables))


def _parsed(text: str, model: type[Strict] | None, *, file: str, variables: Mapping[str, str]) -> Any:
    document = parse(text, file=file)
    if not isinstance(document.value, dict):
        raise BadInputError(f"{file}: a recipe is a mapping of keys to values; see `caprl config schema`")
    if model is None:
        model = next((kind for key, kind in TOLD_BY.items() if key in document.value), CaptionRecipe)
    value, unresolved = environment.expand(document.value, variables)
    found = [f"{document.place(path)}: {dotted(path)}: {message}" for path, message in unresolved]
    try:
        recipe = model.model_validate(value)
    except ValidationError as error:
        found += problems.lines(error, model, document)
        raise BadInputError("\n".join(found)) from error
    if found:
        raise BadInputError("\n".join(found))
    return recipe
