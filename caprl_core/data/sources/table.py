"""Tables with a column of image paths: JSON lines, CSV, TSV or parquet."""

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from caprl_core.data.files.reader import Files
from caprl_core.data.sample import SourceRecord
from caprl_core.data.sources import parquet
from caprl_core.data.sources.fields import (
    CAPTION_FIELDS,
    ID_FIELDS,
    IMAGE_FIELDS,
    bad_record,
    first_present,
    first_value,
    make_record,
)
from caprl_core.data.sources.json_records import Picked, annotation_files, json_records
from caprl_core.data.sources.streams import decompressed, plain_name
from caprl_core.errors import BadInputError
from caprl_core.recipe.models import SourceRecipe

_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_JSON = (".jsonl", ".ndjson", ".json")


class Table:
    """One record a row. Columns the recipe does not name are guessed from usual names."""

    def __init__(self, files: Files, source: SourceRecipe) -> None:
        self._files = files
        self._source = source

    def records(self) -> Iterator[SourceRecord]:
        """Rows of all files in order; `ordinal` runs on over them."""
        first = 0
        for uri in annotation_files(self._files, self._source.uri):
            count = 0
            for record in self._reader(uri)(uri, first):
                yield record
                count += 1
            first += count

    def _reader(self, uri: str) -> Callable[[str, int], Iterator[SourceRecord]]:
        name = plain_name(uri)
        if name.endswith(tuple(_DELIMITERS)):
            return self._csv
        if name.endswith(".parquet"):
            return self._parquet
        if name.endswith(_JSON):
            return self._json
        raise BadInputError(f"{uri}: a table must end in {', '.join((*_JSON, *_DELIMITERS, '.parquet'))}")

    def _json(self, uri: str, first: int) -> Iterator[SourceRecord]:
        for record in json_records(self._files, uri, self._pick):
            yield SourceRecord(
                image=record.image,
                ordinal=first + record.ordinal,
                record_id=record.record_id,
                caption=record.caption,
                problem=record.problem,
            )

    def _pick(self, row: dict[str, Any]) -> Picked:
        source = self._source
        image_fields = (source.image_field,) if source.image_field else IMAGE_FIELDS
        return Picked(
            image=first_value(row, image_fields),
            record_id=first_value(row, (source.id_field,) if source.id_field else ID_FIELDS),
            caption=first_value(row, (source.caption_field,) if source.caption_field else CAPTION_FIELDS),
            field=source.image_field or "image",
        )

    def _csv(self, uri: str, first: int) -> Iterator[SourceRecord]:
        delimiter = next(mark for suffix, mark in _DELIMITERS.items() if plain_name(uri).endswith(suffix))
        with decompressed(self._files, uri) as stream:
            # Bytes that are not UTF-8 become surrogates, which the record then reports instead of losing the row.
            text = io.TextIOWrapper(stream, "utf-8-sig", errors="surrogateescape", newline="")
            lines = csv.reader(text, delimiter=delimiter, strict=True)
            try:
                header = next(lines, None)
                if header is None:
                    raise BadInputError(f"{uri}: the file is empty")
                image, record_id, caption = self._columns(uri, header)
                ordinal = first
                for values in lines:
                    where = f"{uri}: line {lines.line_num}"
                    if not values:
                        continue
                    if len(values) == len(header):
                        row = dict(zip(header, values, strict=True))
                        yield make_record(
                            ordinal,
                            image=row[image] or None,
                            record_id=row[record_id] if record_id else None,
                            caption=row[caption] if caption else None,
                            where=where,
                            field=image,
                        )
                    else:
                        yield bad_record(ordinal, f"{where}: {len(values)} fields, and the header has {len(header)}")
                    ordinal += 1
            except csv.Error as error:
                # Usually a quote that never closes; from here on rows cannot be told apart.
                raise BadInputError(f"{uri}: line {lines.line_num}: {error}; close the quotes there") from error

    def _parquet(self, uri: str, first: int) -> Iterator[SourceRecord]:
        with parquet.opened(self._files, uri) as table:
            image, record_id, caption = self._columns(uri, table.schema_arrow.names)
            wanted = list(dict.fromkeys(name for name in (image, record_id, caption) if name))
            for number, row in enumerate(parquet.rows(table, wanted)):
                yield make_record(
                    first + number,
                    image=row[image],
                    record_id=row[record_id] if record_id else None,
                    caption=row[caption] if caption else None,
                    where=f"{uri}: row {number}",
                    field=image,
                )

    def _columns(self, uri: str, names: Sequence[str]) -> tuple[str, str | None, str | None]:
        """The columns of image, id and caption."""
        source = self._source
        for field in (source.image_field, source.id_field, source.caption_field):
            if field is not None and field not in names:
                raise BadInputError(f"{uri}: no column `{field}`; it has {', '.join(names)}")
        image = source.image_field or first_present(IMAGE_FIELDS, names)
        if image is None:
            raise BadInputError(
                f"{uri}: no column of image paths found among {', '.join(names)}; "
                f"set image_field of source {source.name}"
            )
        return (
            image,
            source.id_field or first_present(ID_FIELDS, names),
            source.caption_field or first_present(CAPTION_FIELDS, names),
        )
