"""What a source is: a stream of records, in an order that never changes for the same files."""

from collections.abc import Iterator
from typing import Protocol

from caprl_core.data.sample import SourceRecord


class Source(Protocol):
    """A reader of one source. Each call of `records` begins anew."""

    def records(self) -> Iterator[SourceRecord]:
        """Every record in source order, malformed ones included with `problem` set.

        Raises `BadInputError` where a file cannot be read at all or is cut, naming file, place and remedy, and
        `StoreError` where the place it lies in fails.
        """
        ...
