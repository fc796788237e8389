"""A dataset as JSONL: the newest revision of every shard, in plan order, each byte read checked against its commit."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import orjson

from caprl_core.data.row import COMMON_FIELDS
from caprl_core.errors import BadInputError, IncompleteError
from caprl_core.export.forms import Form, shape_of
from caprl_core.export.outputs import Outputs, WrittenFile
from caprl_core.recipe.models import StorageExecution
from caprl_core.shards.current import Current, current_commits
from caprl_core.shards.dataset import Dataset
from caprl_core.shards.shard_lines import shard_lines

MANIFEST_VERSION = 1


class ExportReport(NamedTuple):
    """What was written. `pending` samples are not in it; `rejected` ones never will be in these revisions."""

    files: tuple[WrittenFile, ...]
    manifest: str
    rows: int
    rejected: int
    pending: int


def export_jsonl(
    dataset: Dataset,
    out: str,
    *,
    form: Form = "standard",
    fields: Sequence[str] | None = None,
    files: int = 1,
    attempt: int | None = None,
    partial: bool = False,
    storage: StorageExecution | None = None,
    scratch: str | None = None,
    threads: int = 8,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> ExportReport:
    """Write the rows of a dataset to `out`, a local path or an `s3://` address, and a manifest beside it.

    `attempt` keeps only rows of that attempt (retries shift the distribution of captions). `files` > 1 splits the rows
    evenly, in plan order. `scratch` is the local folder an export to `s3://` is gathered in before it is put whole;
    None is the system's temporary one. `progress` is told shards done and in all. Datasets of any stage are served;
    which columns they have, their first row tells.

    Raises `IncompleteError` when samples are pending and `partial` is false, `BadInputError` for options the dataset
    cannot serve, `StoreError` when what is stored is not what was committed. Nothing is published then.
    """
    if files < 1 or threads < 1:
        raise BadInputError("export: files and threads must be 1 or more")
    current = current_commits(dataset)
    if current.pending and not partial:
        raise IncompleteError(
            f"{dataset.store.uri}: {current.pending} of {dataset.record.samples} samples are still pending; "
            "finish with `caprl annotate`, or export what is there with --partial"
        )
    prompt = dataset.record.identity.get("prompt", {}).get("text")
    shape = shape_of(form, fields, _columns(dataset, current), prompt)
    total = sum(_selected(record.rows, record.attempts, attempt) for record in current.records)
    ends = [total * (number + 1) // files for number in range(files)]
    rows = 0
    rejected = sum(record.rejected for record in current.records)
    with Outputs(out, files, storage, scratch) as outputs:
        for done, shard in enumerate(shard_lines(dataset.store, current.records, threads=threads), start=1):
            for line in shard.lines:
                row = orjson.loads(line)
                if attempt is not None and row["attempt"] != attempt:
                    continue
                while len(outputs.written) < files - 1 and rows >= ends[len(outputs.written)]:
                    outputs.next_file()
                outputs.write(shape(line, row))
                rows += 1
            progress(done, len(current.records))
        while len(outputs.written) < files:
            outputs.next_file()
        manifest = {
            "manifest_version": MANIFEST_VERSION,
            "dataset": dataset.record.name,
            "fingerprint": dataset.record.fingerprint,
            "plan_sha256": dataset.record.plan_sha256,
            "form": "fields" if fields is not None else form,
            "fields": list(fields) if fields is not None else None,
            "attempt": attempt,
            "samples": dataset.record.samples,
            "rows": rows,
            "rejected": rejected,
            "pending": current.pending,
            "files": [item._asdict() for item in outputs.written],
            "commits": _commits(current),
        }
        outputs.publish(orjson.dumps(manifest, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    return ExportReport(outputs.written, outputs.manifest_name, rows, rejected, current.pending)


def _columns(dataset: Dataset, current: Current) -> list[str]:
    """The columns of a dataset's rows, which are the same in all of them; those of a caption where there is no row."""
    first = [record for record in current.records if record.rows][:1]
    for shard in shard_lines(dataset.store, first, threads=1):
        return list(orjson.loads(shard.lines[0]))
    return [*COMMON_FIELDS.names, "caption"]


def _selected(rows: int, attempts: dict[str, int], attempt: int | None) -> int:
    return rows if attempt is None else attempts.get(str(attempt), 0)


def _commits(current: Current) -> dict[str, str]:
    """Commit -> sha256 of the JSONL it names: which content this export was made of."""
    return {str(record.unit): record.object("jsonl").sha256 for record in current.records}
