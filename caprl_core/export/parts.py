"""Rows of one subset split evenly over its files, in plan order."""

from collections.abc import Iterator, Sequence

from caprl_core.errors import BadInputError


class Parts:
    """Says which file the next row goes to: `rows` rows over `names`, sizes differing by at most one."""

    def __init__(self, names: Sequence[str], rows: int) -> None:
        if not names:
            raise BadInputError("export: files must be 1 or more")
        self.names = tuple(names)
        self._ends = [rows * (number + 1) // len(names) for number in range(len(names))]
        self.number = 0
        self._taken = 0

    def passed(self) -> Iterator[int]:
        """Take one row: yields the files that ended before it, and leaves `number` at its own."""
        while self.number < len(self.names) - 1 and self._taken >= self._ends[self.number]:
            yield self.number
            self.number += 1
        self._taken += 1
