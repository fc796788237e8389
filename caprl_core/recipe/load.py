"""Reads a recipe from YAML; everything wrong with it is said at once, by file, line and dotted path."""

import os
from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError

from caprl_core.errors import BadInputError
from caprl_core.recipe import environment, problems
from caprl_core.recipe.models import CaptionRecipe
from caprl_core.recipe.strict_yaml import MAX_BYTES, dotted, parse


def load_recipe(path: str | os.PathLike[str]) -> CaptionRecipe:
    """The recipe in the YAML file at `path`, with `${NAME}` in its locations taken from the process's environment.

    Relative paths inside stay as written: they are relative to the working directory of the run, not to the file.
    Raises `BadInputError` with one line for each problem.
    """
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
    return parse_recipe(text, file=file, variables=os.environ)


def parse_recipe(text: str, *, file: str, variables: Mapping[str, str]) -> CaptionRecipe:
    """The recipe in `text`; `file` is its name in messages, `variables` the environment. Raises `BadInputError`."""
    document = parse(text, file=file)
    if not isinstance(document.value, dict):
        raise BadInputError(f"{file}: a recipe is a mapping of keys to values; see `caprl config schema`")
    value, unresolved = environment.expand(document.value, variables)
    found = [f"{document.place(path)}: {dotted(path)}: {message}" for path, message in unresolved]
    try:
        recipe = CaptionRecipe.model_validate(value)
    except ValidationError as error:
        found += problems.lines(error, CaptionRecipe, document)
        raise BadInputError("\n".join(found)) from error
    if found:
        raise BadInputError("\n".join(found))
    return recipe
