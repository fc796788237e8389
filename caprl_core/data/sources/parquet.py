"""What the two parquet sources share: opening a file and streaming its rows."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from caprl_core.data.files.reader import Files
from caprl_core.errors import BadInputError

BATCH_ROWS = 4096
READ_BLOCK = 2**20
"""Bytes fetched at a time from parquet files: the footer and small column chunks fit in one request."""


@contextmanager
def opened(files: Files, uri: str) -> Iterator[pq.ParquetFile]:
    """The file, its footer read; damage found while it is open becomes `BadInputError`."""
    with files.open(uri, READ_BLOCK) as stream:
        try:
            with pq.ParquetFile(stream) as table:
                yield table
        except (pa.ArrowException, OSError) as error:
            raise damaged(uri, error) from error


def rows(table: pq.ParquetFile, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Rows as dictionaries of the given columns (`a.b` is a field of a struct); all of them, also without columns."""
    if not columns:
        yield from ({} for _ in range(table.metadata.num_rows))
        return
    for batch in table.iter_batches(batch_size=BATCH_ROWS, columns=list(columns), use_threads=False):
        yield from batch.to_pylist()


def damaged(uri: str, error: Exception) -> BadInputError:
    """The error for a file that is no parquet, cut or broken inside."""
    detail = " ".join(str(error).split())[:200]
    return BadInputError(f"{uri}: not a readable parquet file ({detail}); it is cut or damaged: fetch it again")
