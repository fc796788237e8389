"""A dataset as JSONL: the newest revision of every shard, in plan order, each byte read checked against its commit."""

from collections.abc import Sequence

from caprl_core.errors import BadInputError
from caprl_core.export.forms import Form, shape_of
from caprl_core.export.lines import LineWriter
from caprl_core.export.manifest import ExportReport, manifest_of
from caprl_core.export.outputs import Outputs, file_address, part_names
from caprl_core.export.reading import Progress, Reading
from caprl_core.export.subsets import Division
from caprl_core.recipe.models import StorageExecution
from caprl_core.shards.dataset import Dataset


def export_jsonl(
    dataset: Dataset,
    out: str,
    *,
    form: Form = "standard",
    fields: Sequence[str] | None = None,
    files: int = 1,
    division: Division | None = None,
    partial: bool = False,
    storage: StorageExecution | None = None,
    scratch: str | None = None,
    threads: int = 8,
    progress: Progress = lambda _done, _total: None,
) -> ExportReport:
    """Write the rows of a dataset to `out`, a local path or an `s3://` address, and a manifest beside it.

    `files` > 1 splits the rows of each subset evenly, in plan order. `scratch` is the local folder an export to `s3://`
    is gathered in before it is put whole; None is the system's temporary one. Datasets of any stage are served; which
    columns they have, their first row tells. Captions are written as they are: no trainer's marker is escaped.

    Raises `IncompleteError` when samples are pending and `partial` is false, `BadInputError` for options the dataset
    cannot serve, `StoreError` when what is stored is not what was committed. Nothing is published then.
    """
    if files < 1:
        raise BadInputError("export: files and threads must be 1 or more")
    address = file_address(out)
    reading = Reading(dataset, division=division or Division(), partial=partial, threads=threads)
    shape = shape_of(form, fields, reading.columns)
    rows = 0
    with Outputs(address.folder, f"{address.name}.manifest.json", storage, scratch) as outputs:
        writers = [
            LineWriter(outputs, part_names(address.name, subset.name, files), subset.rows) for subset in reading.subsets
        ]
        for item in reading.rows(progress):
            line = shape(item.line, item.row)
            for number in item.subsets:
                writers[number].write(line)
            rows += 1
        for writer in writers:
            writer.close()
        chosen = {
            "format": "jsonl",
            "form": "fields" if fields is not None else form,
            "fields": list(fields) if fields is not None else None,
        }
        outputs.publish(manifest_of(reading, outputs.written, rows, chosen))
    return ExportReport(outputs.written, outputs.manifest_name, rows, reading.rejected, reading.current.pending)
