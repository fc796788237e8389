"""What a finished sample is: one ledger line always, and one row when it succeeded. Versioned arrow schemas."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson
import pyarrow as pa

from caprl_core.data.storable import storable

ROW_SCHEMA_VERSION = 1
"""Raised whenever a common column changes; part of the fingerprint, so a dataset never mixes two versions."""

COMMON_FIELDS = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("image", pa.string(), nullable=False),  # reference in the source
        pa.field("record_id", pa.string()),
        pa.field("original_caption", pa.string()),
        pa.field("image_file", pa.string(), nullable=False),  # member name in the tar
        pa.field("image_sha256", pa.string(), nullable=False),  # of the original bytes
        pa.field("image_size", pa.int64(), nullable=False),  # bytes, original
        pa.field("image_format", pa.string(), nullable=False),
        pa.field("image_width", pa.int32(), nullable=False),  # pixels, original
        pa.field("image_height", pa.int32(), nullable=False),
        pa.field("image_frames", pa.int32(), nullable=False),
        pa.field("image_notes", pa.list_(pa.string()), nullable=False),
        pa.field("member_sha256", pa.string(), nullable=False),  # of the bytes in the tar; differs after re-encoding
        pa.field("engine_width", pa.int32(), nullable=False),  # pixels the engine saw
        pa.field("engine_height", pa.int32(), nullable=False),
        pa.field("model", pa.string(), nullable=False),
        pa.field("model_revision", pa.string()),
        pa.field("engine", pa.string(), nullable=False),
        pa.field("engine_version", pa.string(), nullable=False),
        pa.field("prompt_id", pa.string(), nullable=False),
        pa.field("temperature", pa.float64(), nullable=False),
        pa.field("top_p", pa.float64(), nullable=False),
        pa.field("top_k", pa.int32(), nullable=False),
        pa.field("repetition_penalty", pa.float64(), nullable=False),
        pa.field("max_tokens", pa.int32(), nullable=False),
        pa.field("seed", pa.int64(), nullable=False),
        pa.field("attempt", pa.int32(), nullable=False),  # 1-based
        pa.field("finish_reason", pa.string(), nullable=False),
        pa.field("prompt_tokens", pa.int32(), nullable=False),
        pa.field("completion_tokens", pa.int32(), nullable=False),
        pa.field("latency_s", pa.float64(), nullable=False),
    ]
)
"""Columns every stage's row starts with, in this order; the stage's own columns follow."""

MEMBER_FIELDS = frozenset({"image_file", "member_sha256"})
"""Columns that only stages have whose tars carry the images."""
IMAGE_FIELDS = MEMBER_FIELDS | {
    *("image_sha256", "image_size", "image_format", "image_width", "image_height", "image_frames", "image_notes"),
    *("engine_width", "engine_height"),
}
"""Columns that stages which read no image do not have."""
ENGINE_FIELDS = frozenset(
    {
        *("model", "model_revision", "engine", "engine_version", "prompt_id"),
        *("temperature", "top_p", "top_k", "repetition_penalty", "max_tokens", "seed"),
        *("finish_reason", "prompt_tokens", "completion_tokens", "latency_s"),
    }
)
"""Columns that stages which ask no engine do not have."""

LEDGER = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("index", pa.int32(), nullable=False),  # position in the shard
        pa.field("source", pa.string(), nullable=False),
        pa.field("image", pa.string(), nullable=False),
        pa.field("status", pa.string(), nullable=False),  # "row" or "rejected"
        pa.field("reason", pa.string()),  # caprl_core.data.reasons.Reason, null for rows
        pa.field("detail", pa.string()),  # at most 500 characters
        pa.field("attempt", pa.int32(), nullable=False),  # attempts used; 0 if the engine was never asked
        pa.field("earlier", pa.list_(pa.string()), nullable=False),  # reasons of the attempts before, in order
        pa.field("finish_reason", pa.string()),
        pa.field("prompt_tokens", pa.int64(), nullable=False),  # over all attempts
        pa.field("completion_tokens", pa.int64(), nullable=False),
        pa.field("latency_s", pa.float64(), nullable=False),  # inside the engine, over all attempts
        pa.field("image_sha256", pa.string()),
        pa.field("image_size", pa.int64()),
    ]
)
"""One line for every planned sample of a committed shard."""

DETAIL_CHARACTERS = 500
"""A ledger line stays small whatever a hostile server or image puts into an error text."""


@dataclass(frozen=True, slots=True)
class Result:
    """A finished sample: its ledger line, and its row if it succeeded."""

    key: str
    index: int
    ledger: Mapping[str, Any]
    row: Mapping[str, Any] | None

    @property
    def rejected(self) -> bool:
        """True when the sample has a reason instead of a row."""
        return self.row is None


def row_schema(stage_fields: pa.Schema, without: frozenset[str] = frozenset()) -> pa.Schema:
    """The full schema of a stage's rows, `without` the common columns it does not have."""
    return pa.schema([*(field for field in COMMON_FIELDS if field.name not in without), *stage_fields])


def encode_line(value: Mapping[str, Any]) -> bytes:
    """One JSON line: UTF-8, keys in their given order, newline at the end. Lone surrogates become U+FFFD."""
    try:
        return orjson.dumps(value, option=orjson.OPT_APPEND_NEWLINE)
    except TypeError:
        return orjson.dumps(clean_text(value), option=orjson.OPT_APPEND_NEWLINE)


def clean_text(value: Any) -> Any:
    """Replace what UTF-8 cannot carry (lone surrogates), recursively; everything else is returned as it is."""
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, Mapping):
        return {key: clean_text(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [clean_text(item) for item in value]
    return value
