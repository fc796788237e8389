"""What every export reads: the newest revision of every shard, in plan order, each byte checked against its commit."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import orjson

from caprl_core.data.row import COMMON_FIELDS
from caprl_core.errors import BadInputError, IncompleteError
from caprl_core.export.subsets import Division, Subset, Subsets, divide
from caprl_core.shards.current import Current, current_commits
from caprl_core.shards.dataset import Dataset
from caprl_core.shards.shard_lines import ShardLines, shard_lines

Progress = Callable[[int, int], None]
"""Told shards done and in all."""


def _silent(_done: int, _total: int) -> None:
    return


class ExportLine(NamedTuple):
    """A line that is exported, and the numbers of the subsets it belongs to."""

    line: bytes
    subsets: tuple[int, ...]


class ExportRow(NamedTuple):
    """A row that is exported: as committed, parsed, and the numbers of the subsets it belongs to."""

    line: bytes
    row: dict[str, Any]
    subsets: tuple[int, ...]


class Reading:
    """The rows of a dataset that an export takes."""

    def __init__(self, dataset: Dataset, *, division: Division, partial: bool, threads: int) -> None:
        """Raises `IncompleteError` when samples are pending and `partial` is false, `BadInputError` for options that
        the dataset cannot serve, `StoreError` when what is stored is not what was committed.
        """
        if threads < 1:
            raise BadInputError("export: threads must be 1 or more")
        self.dataset = dataset
        self.current: Current = current_commits(dataset)
        if self.current.pending and not partial:
            raise IncompleteError(
                f"{dataset.store.uri}: {self.current.pending} of {dataset.record.samples} samples are still pending; "
                "finish with `caprl annotate`, or export what is there with --partial"
            )
        self._threads = threads
        self.division = division
        self._chosen: Subsets = divide(dataset, self.current, division, threads=threads)

    @property
    def subsets(self) -> tuple[Subset, ...]:
        """Names and sizes; one without a name when everything goes into one file."""
        return self._chosen.subsets

    @property
    def rejected(self) -> int:
        """Samples that have a reason instead of a row."""
        return sum(record.rejected for record in self.current.records)

    @property
    def columns(self) -> list[str]:
        """The columns of the rows, which are the same in all of them; those of a caption where there is no row."""
        first = [record for record in self.current.records if record.rows][:1]
        for shard in shard_lines(self.dataset.store, first, threads=1):
            return list(orjson.loads(shard.lines[0]))
        return [*COMMON_FIELDS.names, "caption"]

    def shards(self, progress: Progress = _silent) -> Iterator[list[ExportRow]]:
        """The exported rows, shard by shard in plan order; one list for every commit, empty ones included."""
        for shard in self._read(progress):
            yield list(self._rows(shard))

    def rows(self, progress: Progress = _silent) -> Iterator[ExportRow]:
        """The exported rows, one by one in plan order."""
        # No list of them: a thousand parsed rows at a time cost the collector of cycles a fifth of the export.
        for shard in self._read(progress):
            yield from self._rows(shard)

    def lines(self, progress: Progress = _silent) -> Iterator[ExportLine]:
        """The exported lines, one by one in plan order; parsed only where a division needs it."""
        if not self._chosen.take_all:
            for item in self.rows(progress):
                yield ExportLine(item.line, item.subsets)
            return
        for shard in self._read(progress):
            for line in shard.lines:
                yield ExportLine(line, (0,))

    def _rows(self, shard: ShardLines) -> Iterator[ExportRow]:
        for line in shard.lines:
            row = orjson.loads(line)
            if subsets := self._chosen.of(row):
                yield ExportRow(line, row, subsets)

    def _read(self, progress: Progress) -> Iterator[ShardLines]:
        records = self.current.records
        for done, shard in enumerate(shard_lines(self.dataset.store, records, threads=self._threads), start=1):
            yield shard
            progress(done, len(records))
