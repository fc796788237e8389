"""A dataset as parquet: the rows' own columns with their own types, read from JSON by arrow, never through Python."""

import io
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.json

from caprl_core.data.row import COMMON_FIELDS
from caprl_core.errors import BadInputError
from caprl_core.export.forms import Form, fields_of
from caprl_core.export.manifest import ExportReport, manifest_of
from caprl_core.export.outputs import Outputs, file_address, part_names
from caprl_core.export.parquet_files import Group, ParquetFiles
from caprl_core.export.parts import Parts
from caprl_core.export.reading import Progress, Reading
from caprl_core.export.subsets import Division
from caprl_core.recipe.models import StorageExecution
from caprl_core.shards.dataset import Dataset

GROUP = Group(rows=10_000, size=32 * 2**20)
"""Sizes are those of the JSON: 10,000 rows of 2 kB are 20 MB in memory."""


def export_parquet(
    dataset: Dataset,
    out: str,
    schema: pa.Schema,
    *,
    form: Form = "full",
    fields: Sequence[str] | None = None,
    files: int = 1,
    division: Division | None = None,
    partial: bool = False,
    storage: StorageExecution | None = None,
    scratch: str | None = None,
    threads: int = 8,
    progress: Progress = lambda _done, _total: None,
) -> ExportReport:
    """Write the rows to `out`, a local path or an `s3://` address, and a manifest beside it; as `export_jsonl` does.

    `schema` is that of the stage's rows (`caprl_core.data.row.row_schema`); columns that it does not know have the
    types arrow finds in the first rows. Raises what `export_jsonl` raises.
    """
    if files < 1:
        raise BadInputError("export: files and threads must be 1 or more")
    address = file_address(out)
    reading = Reading(dataset, division=division or Division(), partial=partial, threads=threads)
    wanted = fields_of(form, fields, reading.columns)
    rows = 0
    with Outputs(address.folder, f"{address.name}.manifest.json", storage, scratch) as outputs:
        writers = [
            ParquetFiles(
                outputs,
                Parts(part_names(address.name, subset.name, files), subset.rows),
                _Tables(schema, wanted).of,
                group=GROUP,
                options={"compression": "zstd"},
            )
            for subset in reading.subsets
        ]
        for item in reading.lines(progress):
            for number in item.subsets:
                writers[number].write(item.line, len(item.line))
            rows += 1
        for writer in writers:
            writer.close()
        facts: dict[str, Any] = {"format": "parquet", "columns": list(wanted)}
        outputs.publish(manifest_of(reading, outputs.written, rows, facts))
    return ExportReport(outputs.written, outputs.manifest_name, rows, reading.rejected, reading.current.pending)


def table_of(lines: Sequence[bytes], schema: pa.Schema, wanted: Sequence[str]) -> pa.Table:
    """Committed lines as a table of the columns `wanted`, typed by `schema` where it knows them."""
    data = b"".join(lines)
    known = [schema.field(name) for name in wanted if name in schema.names]
    table = pyarrow.json.read_json(
        io.BytesIO(data),
        # One block: a line may be longer than arrow's default block, and blocks are parsed apart.
        read_options=pyarrow.json.ReadOptions(block_size=len(data) + 1, use_threads=False),
        parse_options=pyarrow.json.ParseOptions(
            explicit_schema=pa.schema(known),
            unexpected_field_behavior="ignore" if len(known) == len(wanted) else "infer",
        ),
    )
    return table.select(list(wanted))


class _Tables:
    """Tables of lines, all of the schema of the first: a column that `schema` does not know keeps its first type."""

    def __init__(self, schema: pa.Schema, wanted: Sequence[str]) -> None:
        self._schema = schema
        self._wanted = wanted
        self._found: pa.Schema | None = None

    def of(self, lines: Sequence[bytes]) -> pa.Table:
        """Any number of lines. Raises `BadInputError` where a column that `schema` does not know changes its type."""
        if not lines:
            known = {field.name: field for field in self._found or self._schema}
            columns = [known.get(name, pa.field(name, pa.string())) for name in self._wanted]
            return pa.schema(columns).empty_table()
        try:
            table = table_of(lines, self._schema, self._wanted)
            self._found = self._found or table.schema
            return table.cast(self._found)
        except pa.ArrowException as error:
            what = " ".join(str(error).split())[:200]
            raise BadInputError(
                f"--format parquet: a column of these rows has no one type ({what}); take --format jsonl --form full"
            ) from error


def schema_of(dataset: Dataset, stage_fields: pa.Schema) -> pa.Schema:
    """The schema for `export_parquet`: common columns always, the stage's own for captions."""
    return pa.schema([*COMMON_FIELDS, *(stage_fields if dataset.record.stage == "caption" else ())])
