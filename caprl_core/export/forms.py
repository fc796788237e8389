"""The shapes a row can leave in: from one JSONL line of a shard to one line of an export."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

import orjson

from caprl_core.data.row import encode_line
from caprl_core.errors import BadInputError

Form = Literal["standard", "full", "minimal", "llava"]
FORMS: tuple[Form, ...] = get_args(Form)

STANDARD_FIELDS = (
    "key",
    "image",
    "caption",
    "source",
    "record_id",
    "image_sha256",
    "model",
    "model_revision",
    "prompt_id",
    "seed",
    "attempt",
    "finish_reason",
    "completion_tokens",
)
"""The image, its caption, and enough provenance to filter by and to find the row again in the shards."""
MINIMAL_FIELDS = ("image", "caption")
"""What CapRL-2M releases: relative image path and caption."""

Row = dict[str, Any]
Shape = Callable[[bytes, Row], bytes]
"""From a committed line and the row in it to a line of the export, newline included."""


def shape_of(form: Form, fields: Sequence[str] | None, columns: Sequence[str], prompt: str | None) -> Shape:
    """The function that shapes a line.

    `fields` names the columns to take, in this order, instead of a form's own; `columns` are those of the dataset;
    `prompt` is the user's text, which `llava` puts before each caption. Raises `BadInputError` for a column that the
    dataset does not have, or for a form it cannot take.
    """
    if fields is not None:
        return _fields(fields, columns)
    match form:
        case "full":
            return lambda line, _: line if line.endswith(b"\n") else line + b"\n"
        case "standard":
            return _fields(STANDARD_FIELDS, columns)
        case "minimal":
            return _fields(MINIMAL_FIELDS, columns)
        case "llava":
            return _llava(columns, prompt)


def _fields(wanted: Sequence[str], columns: Sequence[str]) -> Shape:
    unknown = [name for name in wanted if name not in columns]
    if unknown or not wanted:
        raise BadInputError(
            f"export: no column {', '.join(map(repr, unknown))} in this dataset; it has {', '.join(columns)}"
            if unknown
            else "export: name at least one field"
        )
    if len(set(wanted)) != len(wanted):
        raise BadInputError(f"export: fields named twice among {', '.join(wanted)}")
    return lambda _, row: encode_line({name: row[name] for name in wanted})


def _llava(columns: Sequence[str], prompt: str | None) -> Shape:
    if "caption" not in columns or prompt is None:
        raise BadInputError("export: the llava form needs a captioning dataset; take --form full or --fields")

    def shape(_: bytes, row: Row) -> bytes:
        turns = [
            # The marker a trainer replaces by the picture's tokens; one of it for one image.
            {"from": "human", "value": f"<image>\n{prompt}"},
            {"from": "gpt", "value": row["caption"]},
        ]
        return orjson.dumps(
            {"id": row["key"], "image": row["image"], "conversations": turns}, option=orjson.OPT_APPEND_NEWLINE
        )

    return shape
