"""The identity of a recipe: the part of it that decides the bytes of a row, its fingerprint, and how two differ."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from pydantic import BaseModel

from caprl_core.data.row import ROW_SCHEMA_VERSION
from caprl_core.recipe.fields import is_execution, is_later
from caprl_core.recipe.strict_yaml import KeyPath, dotted


class _Absent:
    def __repr__(self) -> str:
        return "(absent)"


ABSENT: Final = _Absent()
"""Stands for the value of a field that one side does not have."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One field in which two identities differ; a missing side is `ABSENT`."""

    field: str
    ours: Any
    theirs: Any

    def __str__(self) -> str:
        """The difference in words."""
        return f"{self.field}: {self.ours!r} here, {self.theirs!r} there"


def identity(recipe: BaseModel) -> dict[str, Any]:
    """Every field of `recipe` not marked `EXECUTION`, as plain JSON values, and the version of the row schema.

    Fields marked `LATER` are in it only where they differ from their default.
    """
    return {**_identity_fields(recipe), "row_schema_version": ROW_SCHEMA_VERSION}


def fingerprint(identity: dict[str, Any]) -> str:
    """SHA-256, in hex, of the canonical JSON of `identity`.

    Key order does not matter, nor whether a whole number is written 1 or 1.0 (a reader of the stored identity may turn
    one into the other). Unicode is not normalised: a model sees composed and decomposed letters as different tokens.
    Raises `ValueError` for NaN and infinities, which JSON has not.
    """
    return hashlib.sha256(_canonical(identity).encode("ascii")).hexdigest()


def differences(a: dict[str, Any], b: dict[str, Any]) -> list[Difference]:
    """The fields in which identity `a` (ours) and `b` (theirs) differ, by dotted path, sorted; empty if they agree.

    Empty exactly when the fingerprints are equal.
    """
    ours, theirs = dict(_leaves(a, ())), dict(_leaves(b, ()))
    found = []
    for path in ours.keys() | theirs.keys():
        left, right = ours.get(path, ABSENT), theirs.get(path, ABSENT)
        if left is ABSENT or right is ABSENT or _canonical(left) != _canonical(right):
            found.append(Difference(dotted(path), left, right))
    return sorted(found, key=lambda difference: difference.field)


def _identity_fields(model: BaseModel) -> dict[str, Any]:
    fields = {name: (info, getattr(model, name)) for name, info in type(model).model_fields.items()}
    return {
        name: _plain(value)
        for name, (info, value) in fields.items()
        if not (is_execution(info) or (is_later(info) and value == info.default))
    }


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return _identity_fields(value)
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if value is None or isinstance(value, str | int | float):
        return value
    raise TypeError(f"a recipe's identity holds plain values only, not {type(value).__name__}")


def _canonical(value: Any) -> str:
    return json.dumps(_whole(value), sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def _whole(value: Any) -> Any:
    """Whole floats as integers, everywhere inside `value`."""
    if isinstance(value, dict):
        return {key: _whole(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_whole(inner) for inner in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def _leaves(value: Any, path: KeyPath) -> Iterator[tuple[KeyPath, Any]]:
    """Plain values by path; an empty dict or list is a value of its own."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _leaves(inner, (*path, key))
    elif isinstance(value, list | tuple) and value:
        for position, inner in enumerate(value):
            yield from _leaves(inner, (*path, position))
    else:
        yield path, value
