"""Writers of text formats: JSON lines, or one JSON array."""

from collections.abc import Sequence

from caprl_core.export.outputs import OutputFile, Outputs
from caprl_core.export.parts import Parts
from caprl_core.export.trainers.trainer import Layout


class LineWriter:
    """Rows of one subset into its files. Files without rows are written too."""

    def __init__(self, outputs: Outputs, names: Sequence[str], rows: int, layout: Layout = "jsonl") -> None:
        self._outputs = outputs
        self._parts = Parts(names, rows)
        self._is_array = layout == "json"
        self._open: OutputFile | None = None

    def write(self, line: bytes) -> None:
        """One row; `line` ends with a newline."""
        for number in self._parts.passed():
            self._finish(number)
        if self._open is None:
            self._open = self._outputs.open(self._parts.names[self._parts.number])
        if not self._is_array:
            self._open.write(line)
        else:
            self._open.write((b",\n" if self._open.rows else b"[\n") + line[:-1])
        self._open.rows += 1

    def close(self) -> None:
        """Finish the last file, and those no row came for."""
        for number in range(self._parts.number, len(self._parts.names)):
            self._finish(number)

    def _finish(self, number: int) -> None:
        file = self._open or self._outputs.open(self._parts.names[number])
        if self._is_array:
            file.write(b"\n]\n" if file.rows else b"[]\n")
        file.close()
        self._open = None
