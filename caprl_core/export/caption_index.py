"""Key -> caption on disk: flat memory for millions of captions, read in nearly the order they were written."""

import sqlite3
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

CACHE_KIB = 64 * 1024
"""Memory of SQLite's page cache, which also bounds the sorting of the index."""


class CaptionIndex:
    """An SQLite file in a scratch folder. Use as a context manager; for one thread."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> Self:
        """Make the file."""
        self._data = sqlite3.connect(self._path, isolation_level=None)
        # The file is scratch: a crash throws it away, so nothing is journalled or flushed.
        for setting in (f"cache_size = -{CACHE_KIB}", "journal_mode = OFF", "synchronous = OFF", "temp_store = FILE"):
            self._data.execute(f"PRAGMA {setting}")
        # A table by insertion order with an index beside it: rows sorted by key would be moved about as they come.
        self._data.execute("CREATE TABLE captions (key TEXT NOT NULL, caption TEXT NOT NULL)")
        return self

    def fill(self, captions: Iterable[tuple[str, str]]) -> int:
        """Insert (key, caption), once, and index them; returns how many there are."""
        self._data.execute("BEGIN")
        self._data.executemany("INSERT INTO captions VALUES (?, ?)", captions)
        self._data.execute("COMMIT")
        self._data.execute("CREATE INDEX by_key ON captions (key)")
        return int(self._data.execute("SELECT count(*) FROM captions").fetchone()[0])

    def of(self, key: str) -> str | None:
        """The caption of a key, or None."""
        found = self._data.execute("SELECT caption FROM captions WHERE key = ?", (key,)).fetchone()
        return str(found[0]) if found else None

    def repeats(self, key: str) -> dict[int, str]:
        """Number -> caption of the keys `<key>-1`, `<key>-2`, …: further records of the same image."""
        found = self._data.execute(
            # `.` follows `-` in ASCII: the range holds all keys that begin with `<key>-`, by the index.
            "SELECT key, caption FROM captions WHERE key >= ? AND key < ?",
            (f"{key}-", f"{key}."),
        )
        numbered = {name[len(key) + 1 :]: caption for name, caption in found}
        return {int(number): caption for number, caption in numbered.items() if number.isdecimal()}

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file."""
        self._data.close()
