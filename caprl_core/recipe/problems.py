"""Turns pydantic's errors into lines a person can act on: file, line, dotted path, what is wrong, what is meant."""

import difflib
from typing import Any

from pydantic import BaseModel, ValidationError

from caprl_core.recipe.fields import model_at, walk
from caprl_core.recipe.strict_yaml import Document, KeyPath, dotted


def lines(error: ValidationError, model: type[BaseModel], document: Document) -> list[str]:
    """One line for each problem in `error`, raised by validating `document` as `model`."""
    details = error.errors(include_url=False)
    return [_line(detail, model, document) for detail in details if not _follows_from_items(detail)]


def unknown_key(path: KeyPath, model: type[BaseModel]) -> str:
    """What to write instead of the unknown key at the end of `path`."""
    key = str(path[-1])
    holder = model_at(model, path[:-1]) or model
    valid = list(holder.model_fields)
    near = difflib.get_close_matches(key, valid, n=1, cutoff=0.6)
    if near:
        return f"unknown key; did you mean `{near[0]}`?"
    elsewhere = [".".join(field.path) for field in walk(model) if field.path[-1] == key]
    if elsewhere:
        return f"unknown key here; did you mean `{elsewhere[0]}`?"
    return f"unknown key; valid here: {', '.join(valid)}"


def _follows_from_items(detail: Any) -> bool:
    """pydantic also calls a list of one bad item empty; the item's own problem is enough."""
    return bool(detail["type"] == "too_short" and len(detail["input"]) >= detail["ctx"]["min_length"])


def _line(detail: Any, model: type[BaseModel], document: Document) -> str:
    path: KeyPath = tuple(detail["loc"])
    kind: str = detail["type"]
    if kind == "extra_forbidden":
        text = unknown_key(path, model)
    elif kind == "missing":
        text = "required, and missing" + _description(path, model)
    elif kind == "value_error":
        # Our own validators name their field themselves.
        return f"{document.place(path)}: {detail['msg'].removeprefix('Value error, ')}"
    else:
        text = f"{detail['msg']}; got {_short(detail['input'])}"
    return f"{document.place(path)}: {dotted(path) or 'recipe'}: {text}"


def _description(path: KeyPath, model: type[BaseModel]) -> str:
    holder = model_at(model, path[:-1])
    info = holder.model_fields.get(str(path[-1])) if holder else None
    return f": {info.description}" if info and info.description else ""


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
