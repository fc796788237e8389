"""Hugging Face parquet files whose image column holds the bytes: `image: {bytes, path}`."""

from collections.abc import Iterator

import pyarrow as pa

from caprl_core.data.containers import PARQUET, base_folder, container_name, reference
from caprl_core.data.files.reader import Files
from caprl_core.data.sample import SourceRecord
from caprl_core.data.sources import parquet
from caprl_core.data.sources.fields import CAPTION_FIELDS, ID_FIELDS, first_present, make_record
from caprl_core.errors import BadInputError
from caprl_core.recipe.models import SourceRecipe


class HfParquet:
    """One record a row, referred to as `<file>#<row>`; the image bytes are not read here."""

    def __init__(self, files: Files, source: SourceRecipe) -> None:
        self._files = files
        self._source = source

    def records(self) -> Iterator[SourceRecord]:
        """Rows of all files in order."""
        source = self._source
        base = base_folder(source.uri, PARQUET)
        ordinal = 0
        for uri in self._files.expand(source.uri, PARQUET):
            container = container_name(base, uri)
            with parquet.opened(self._files, uri) as table:
                schema = table.schema_arrow
                image = image_column(schema, uri, source.image_field)
                for field in (source.id_field, source.caption_field):
                    if field is not None and field not in schema.names:
                        raise BadInputError(f"{uri}: no column `{field}`; it has {', '.join(schema.names)}")
                record_id = source.id_field or first_present(ID_FIELDS, schema.names)
                caption = source.caption_field or first_present(CAPTION_FIELDS, schema.names)
                # Only the small leaf of the image column: its bytes are most of the file.
                path = [f"{image}.path"] if _has_path(schema, image) else []
                wanted = [name for name in (record_id, caption) if name]
                for number, row in enumerate(parquet.rows(table, list(dict.fromkeys(path + wanted)))):
                    inner = (row.get(image) or {}).get("path") if path else None
                    yield make_record(
                        ordinal,
                        image=reference(container, number),
                        record_id=row[record_id] if record_id else inner,
                        caption=row[caption] if caption else None,
                        where=f"{uri}: row {number}",
                    )
                    ordinal += 1


def image_column(schema: pa.Schema, uri: str, field: str | None) -> str:
    """The column with image bytes: the named one, or the only one of a fitting type.

    Raises `BadInputError` when there is none or several.
    """
    if field is not None:
        if field not in schema.names or not _holds_bytes(schema.field(field).type):
            raise BadInputError(
                f"{uri}: column `{field}` does not hold image bytes; columns: {', '.join(schema.names)}"
            )
        return field
    found = [column.name for column in schema if _holds_bytes(column.type)]
    if len(found) > 1 and "image" in found:
        return "image"
    if len(found) != 1:
        raise BadInputError(
            f"{uri}: {len(found)} columns hold image bytes ({', '.join(found) or 'none'}) among "
            f"{', '.join(schema.names)}; set image_field of the source"
        )
    return str(found[0])


def _holds_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        index = kind.get_field_index("bytes")
        return index >= 0 and _holds_bytes(kind.field(index).type)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _has_path(schema: pa.Schema, image: str) -> bool:
    kind = schema.field(image).type
    return bool(pa.types.is_struct(kind) and kind.get_field_index("path") >= 0)
