"""One thing that was looked at."""

from typing import Literal, NamedTuple

State = Literal["ok", "note", "missing"]


class Finding(NamedTuple):
    """`note`: lacking or doubtful, but a run can do without. `missing`: needed, and the remedy says what to do."""

    name: str
    state: State
    found: str
    remedy: str = ""


def ok(name: str, found: str) -> Finding:
    """All is well."""
    return Finding(name, "ok", found)


def note(name: str, found: str, remedy: str = "") -> Finding:
    """Worth knowing."""
    return Finding(name, "note", found, remedy)


def missing(name: str, found: str, remedy: str) -> Finding:
    """Needed and not there."""
    return Finding(name, "missing", found, remedy)


def lacking(needed: bool, name: str, found: str, remedy: str) -> Finding:
    """`missing` when it is needed, else `note`."""
    return Finding(name, "missing" if needed else "note", found, remedy)
