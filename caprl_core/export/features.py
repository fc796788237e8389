"""The columns of a dataset as Hugging Face `datasets` features, in code and as YAML.

`datasets` infers the columns of a WebDataset from its first five samples and refuses shards whose members differ, as
ours do (`.jpg` beside `.png`): it has to be told. The same holds for JSONL columns that begin with nulls.
"""

from typing import TYPE_CHECKING, Any

import pyarrow as pa

from caprl_core.data.image_formats import EXTENSIONS
from caprl_core.data.row import MEMBER_FIELDS, row_schema

if TYPE_CHECKING:
    from datasets import Features

IMAGE_COLUMNS = tuple(sorted(set(EXTENSIONS.values())))
"""One column for each extension an image member can have; exactly one of them is set in a sample whose stage keeps
its image."""


def features(stage_fields: pa.Schema, without: frozenset[str] = frozenset()) -> "Features":
    """Features for `load_dataset("webdataset", data_files=….tar, features=…)`. Needs the `datasets` package.

    `without` are the common columns that the stage's rows do not have (`shards.results.absent_fields`).
    """
    from datasets import Features, Image, Value  # noqa: PLC0415 - optional, and seconds to import

    columns: dict[str, Any] = {"__key__": Value("string"), "__url__": Value("string")}
    if not without >= MEMBER_FIELDS:
        columns |= {extension: Image() for extension in IMAGE_COLUMNS}
    columns |= {"txt": Value("string"), "json": row_features(stage_fields, without)}
    return Features(columns)


def row_features(stage_fields: pa.Schema, without: frozenset[str] = frozenset()) -> "Features":
    """Features for `load_dataset("json", data_files=….jsonl, features=…)`. Needs the `datasets` package."""
    from datasets import Features  # noqa: PLC0415

    return Features.from_arrow_schema(row_schema(stage_fields, without))


def features_yaml(stage_fields: pa.Schema) -> list[dict[str, Any]]:
    """What `features` returns for captions, as the `features` list of a dataset card's front matter."""
    return [
        {"name": "__key__", "dtype": "string"},
        {"name": "__url__", "dtype": "string"},
        *({"name": extension, "dtype": "image"} for extension in IMAGE_COLUMNS),
        {"name": "txt", "dtype": "string"},
        {"name": "json", "struct": [_column(field.name, field.type) for field in row_schema(stage_fields)]},
    ]


def _column(name: str, kind: pa.DataType) -> dict[str, Any]:
    if pa.types.is_list(kind):
        return {"name": name, "list": _dtype(kind.value_type)}
    return {"name": name, "dtype": _dtype(kind)}


def _dtype(kind: pa.DataType) -> str:
    """The name `datasets` has for an arrow type; they differ only for floats."""
    return {"double": "float64", "float": "float32"}.get(str(kind), str(kind))
