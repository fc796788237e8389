"""The shapes a row can leave in: from one JSONL line of a shard to one line of an export."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

from caprl_core.data.row import encode_line
from caprl_core.errors import BadInputError

Form = Literal["standard", "full", "minimal"]
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

_FIELDS = {"standard": STANDARD_FIELDS, "minimal": MINIMAL_FIELDS}

Row = dict[str, Any]
Shape = Callable[[bytes, Row], bytes]
"""From a committed line and the row in it to a line of the export, newline included."""


def shape_of(form: Form, fields: Sequence[str] | None, columns: Sequence[str]) -> Shape:
    """The function that shapes a line.

    `fields` names the columns to take, in this order, instead of a form's own; `columns` are those of the dataset.
    Raises `BadInputError` for a column that the dataset does not have.
    """
    if form == "full" and fields is None:
        return lambda line, _: line if line.endswith(b"\n") else line + b"\n"
    wanted = fields_of(form, fields, columns)
    return lambda _, row: encode_line({name: row[name] for name in wanted})


def fields_of(form: Form, fields: Sequence[str] | None, columns: Sequence[str]) -> tuple[str, ...]:
    """The columns an export takes, in order. Raises `BadInputError` for one that the dataset does not have."""
    wanted = tuple(fields if fields is not None else _FIELDS.get(form, columns))
    unknown = [name for name in wanted if name not in columns]
    if unknown or not wanted:
        raise BadInputError(
            f"export: no column {', '.join(map(repr, unknown))} in this dataset; it has {', '.join(columns)}"
            if unknown
            else "export: name at least one field"
        )
    if len(set(wanted)) != len(wanted):
        raise BadInputError(f"export: fields named twice among {', '.join(wanted)}")
    return wanted
