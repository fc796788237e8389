"""The manifest beside an export, and what the caller is told of it."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import orjson

from caprl_core.export.outputs import WrittenFile
from caprl_core.export.reading import Reading

MANIFEST_VERSION = 2
"""Version 1 knew one format and no subsets."""


class ExportReport(NamedTuple):
    """What was written.

    rows: rows taken, each once however many files it is in. rejected: samples that have no row in these revisions.
    pending: samples that have no commit. missing: rows left out because their image was not found. escaped: captions in
    which a marker was escaped. use: how the trainer is given the files.
    """

    files: tuple[WrittenFile, ...]
    manifest: str
    rows: int
    rejected: int
    pending: int
    missing: int = 0
    escaped: int = 0
    use: str = ""


def manifest_of(reading: Reading, written: Sequence[WrittenFile], rows: int, facts: dict[str, Any]) -> bytes:
    """The manifest's bytes: equal for equal commits and options. `facts` are the format's own."""
    record = reading.dataset.record
    division = reading.division
    content = {
        "manifest_version": MANIFEST_VERSION,
        "dataset": record.name,
        "fingerprint": record.fingerprint,
        "plan_sha256": record.plan_sha256,
        **facts,
        "attempt": division.attempt,
        "seed": division.seed,
        "validation": division.validation,
        "subsets": [subset._asdict() for subset in reading.subsets],
        "samples": record.samples,
        "rows": rows,
        "rejected": reading.rejected,
        "pending": reading.current.pending,
        "files": [item._asdict() for item in written],
        # Which content this export was made of: commit -> sha256 of the JSONL it names.
        "commits": {str(commit.unit): commit.object("jsonl").sha256 for commit in reading.current.records},
    }
    return orjson.dumps(content, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
