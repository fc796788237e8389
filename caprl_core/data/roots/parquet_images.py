"""Images inside Hugging Face parquet files, read by row group: neighbours in the plan come from one read."""

from bisect import bisect_right
from collections import OrderedDict
from concurrent.futures import Future
from contextlib import ExitStack
from itertools import accumulate
from threading import Lock
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from caprl_core.data.containers import PARQUET, base_folder
from caprl_core.data.files.reader import Files
from caprl_core.data.files.uris import join
from caprl_core.data.reasons import Reason
from caprl_core.data.roots.root import missing, too_large
from caprl_core.data.sources import parquet
from caprl_core.data.sources.hf_parquet import image_column
from caprl_core.errors import BadInputError, ObjectMissingError, SampleFailedError
from caprl_core.recipe.models import SourceRecipe

MOST_GROUPS = 3
"""Row groups held: those of two neighbouring shards in flight, and the one being entered. Memory is their size."""

MOST_FILES = 8


class ParquetImages:
    """`<file>#<row>` references of one source. Safe to share between threads."""

    def __init__(self, files: Files, source: SourceRecipe, what: str) -> None:
        self._files = files
        self._field = source.image_field
        self._base = base_folder(source.uri, PARQUET)
        self._what = what
        self._lock = Lock()
        self._groups: OrderedDict[tuple[str, int], Future[Any]] = OrderedDict()
        self._opened: OrderedDict[str, _OpenFile] = OrderedDict()

    def read(self, container: str, inner: str, limit: int) -> bytes:
        """The image bytes of one row, `limit` at most.

        Raises `SampleFailedError` for a row that is not there or holds no bytes, and `BadInputError` for a file that
        is gone or damaged.
        """
        uri = join(self._base, container)
        if not (inner.isascii() and inner.isdigit()):
            raise SampleFailedError(Reason.SAMPLE_INVALID, f"{uri}#{inner}: the part after # is not a row number")
        file = self._open(uri)
        place = file.locate(int(inner))
        if place is None:
            raise missing(f"{uri}#{inner}: the file has {file.rows} rows")
        group, row = place
        value = self._group(uri, file, group)[row].as_py()
        data = value.get("bytes") if isinstance(value, dict) else value
        if data is None:
            raise missing(f"{uri}#{inner}: the row holds no image bytes")
        if len(data) > limit:
            raise too_large(f"{uri}#{inner}", limit, len(data))
        return bytes(data)

    def close(self) -> None:
        """Close the files."""
        with self._lock:
            for file in self._opened.values():
                file.close()
            self._opened.clear()
            self._groups.clear()

    def _open(self, uri: str) -> "_OpenFile":
        with self._lock:
            file = self._opened.get(uri)
            if file is None:
                try:
                    file = _OpenFile(self._files, uri, self._field)
                except ObjectMissingError as error:
                    raise BadInputError(f"{self._what}: {error}, though the plan names it") from error
                self._opened[uri] = file
                if len(self._opened) > MOST_FILES:
                    # Not closed here: another thread may be reading from it, and its last user frees it.
                    self._opened.popitem(last=False)
            self._opened.move_to_end(uri)
            return file

    def _group(self, uri: str, file: "_OpenFile", group: int) -> pa.ChunkedArray:
        """The image column of one row group: read by the first who asks, awaited by the others."""
        key = (uri, group)
        with self._lock:
            future = self._groups.get(key)
            is_mine = future is None
            if future is None:
                future = self._groups[key] = Future()
                while len(self._groups) > MOST_GROUPS:
                    self._groups.popitem(last=False)
            self._groups.move_to_end(key)
        if is_mine:
            try:
                future.set_result(file.images(group))
            except BaseException as error:
                with self._lock:
                    self._groups.pop(key, None)
                future.set_exception(error)
        return future.result()


class _OpenFile:
    """One parquet file with its footer read."""

    def __init__(self, files: Files, uri: str, field: str | None) -> None:
        self._uri = uri
        self._lock = Lock()
        self._stack = ExitStack()
        try:
            stream = self._stack.enter_context(files.open(uri, parquet.READ_BLOCK))
            self._table = pq.ParquetFile(stream)
        except (pa.ArrowException, OSError) as error:
            self._stack.close()
            raise parquet.damaged(uri, error) from error
        metadata = self._table.metadata
        self._ends = list(accumulate(metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)))
        self.rows = metadata.num_rows
        schema = self._table.schema_arrow
        column = image_column(schema, uri, field)
        self._leaf = f"{column}.bytes" if pa.types.is_struct(schema.field(column).type) else column

    def locate(self, row: int) -> tuple[int, int] | None:
        """(row group, row in it), or None past the end."""
        if row >= self.rows:
            return None
        group = bisect_right(self._ends, row)
        return group, row - (self._ends[group - 1] if group else 0)

    def images(self, group: int) -> pa.ChunkedArray:
        try:
            with self._lock:
                return self._table.read_row_group(group, columns=[self._leaf], use_threads=False).column(0)
        except (pa.ArrowException, OSError) as error:
            raise parquet.damaged(f"{self._uri} (row group {group})", error) from error

    def close(self) -> None:
        with self._lock:
            self._stack.close()
