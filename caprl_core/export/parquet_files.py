"""Row groups of one subset into its parquet files, in flat memory."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from caprl_core.export.outputs import OutputFile, Outputs
from caprl_core.export.parts import Parts

Item = TypeVar("Item")


class Group(NamedTuple):
    """A row group ends at either: rows, or bytes as the caller counts them."""

    rows: int
    size: int


class _Open(NamedTuple):
    file: OutputFile
    writer: pq.ParquetWriter


class ParquetFiles(Generic[Item]):
    """Items of one subset, tables of them made by `table`. Files without rows are written too."""

    def __init__(
        self,
        outputs: Outputs,
        parts: Parts,
        table: Callable[[Sequence[Item]], pa.Table],
        *,
        group: Group,
        options: Mapping[str, Any],
    ) -> None:
        """`table` makes a table of any number of items, none included, always of one schema; `options` are those of
        `pyarrow.parquet.ParquetWriter`.
        """
        self._outputs = outputs
        self._parts = parts
        self._table = table
        self._group = group
        self._options = dict(options)
        self._items: list[Item] = []
        self._size = 0
        self._open: _Open | None = None

    def write(self, item: Item, size: int) -> None:
        """One row of about `size` bytes."""
        for number in self._parts.passed():
            self._finish(number)
        self._items.append(item)
        self._size += size
        if len(self._items) == self._group.rows or self._size >= self._group.size:
            self._open = self._flush(self._parts.number)

    def close(self) -> None:
        """Finish the last file, and those no row came for."""
        for number in range(self._parts.number, len(self._parts.names)):
            self._finish(number)

    def _flush(self, number: int) -> _Open:
        table = self._table(self._items)
        target = self._open
        if target is None:
            file = self._outputs.open(self._parts.names[number])
            target = _Open(file, pq.ParquetWriter(file, table.schema, **self._options))
        if self._items:
            target.writer.write_table(table, row_group_size=len(table))
            target.file.rows += len(table)
        self._items, self._size = [], 0
        return target

    def _finish(self, number: int) -> None:
        target = self._open if self._open is not None and not self._items else self._flush(number)
        target.writer.close()
        target.file.close()
        self._open = None
