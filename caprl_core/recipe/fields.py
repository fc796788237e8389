"""Walks the recipe models: every field, where it lies, and whether it is identity or execution."""

from collections.abc import Iterator
from dataclasses import dataclass
from types import UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

ANY = "*"
"""Stands in a path for each list position or dictionary key."""


@dataclass(frozen=True, slots=True)
class RecipeField:
    """One field of a recipe model.

    path:      names from the top, `*` for list positions: `("sources", "*", "uri")`.
    execution: the field, or one around it, is marked `EXECUTION`.
    model:     the model the field holds (itself or as list items), or None for a plain value.
    """

    path: tuple[str, ...]
    info: FieldInfo
    execution: bool
    model: type[BaseModel] | None


def is_execution(info: FieldInfo) -> bool:
    """Whether the field itself carries the `EXECUTION` mark."""
    extra = info.json_schema_extra
    return isinstance(extra, dict) and extra.get("identity") is False


def is_later(info: FieldInfo) -> bool:
    """Whether the field carries the `LATER` mark: identity, but not while it has its default."""
    extra = info.json_schema_extra
    return isinstance(extra, dict) and extra.get("identity") == "unless default"


def walk(model: type[BaseModel]) -> Iterator[RecipeField]:
    """Every field of `model` and of the models inside it, parents first, in order of declaration."""
    yield from _walk(model, (), execution=False)


def model_at(model: type[BaseModel], path: tuple[str | int, ...]) -> type[BaseModel] | None:
    """The model that holds the keys at `path` (list positions as numbers), or None if `path` is a plain value."""
    current = model
    for part in path:
        if isinstance(part, int):
            continue
        info = current.model_fields.get(part)
        inner = _held_model(info.annotation)[0] if info else None
        if inner is None:
            return None
        current = inner
    return current


def _walk(model: type[BaseModel], prefix: tuple[str, ...], *, execution: bool) -> Iterator[RecipeField]:
    for name, info in model.model_fields.items():
        inner, repeated = _held_model(info.annotation)
        field = RecipeField((*prefix, name), info, execution or is_execution(info), inner)
        yield field
        if inner is not None:
            below = (*field.path, ANY) if repeated else field.path
            yield from _walk(inner, below, execution=field.execution)


def _held_model(annotation: Any) -> tuple[type[BaseModel] | None, bool]:
    """The model inside `annotation`, through None-unions and tuples, and whether it is repeated."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation, False
    origin = get_origin(annotation)
    if origin not in (tuple, list, Union, UnionType):
        return None, False
    for argument in get_args(annotation):
        inner, repeated = _held_model(argument)
        if inner is not None:
            return inner, repeated or origin in (tuple, list)
    return None, False
