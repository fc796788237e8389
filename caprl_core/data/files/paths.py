"""Image paths as datasets write them, made safe: a path can only name something below its root."""

import re

_ADDRESS = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]*://")


class UnsafePathError(ValueError):
    """The path could leave its root; the text says by what."""


def is_address(reference: str) -> bool:
    """Whether the reference is a URL of any scheme rather than a path."""
    return _ADDRESS.match(reference) is not None


def safe_parts(path: str) -> tuple[str, ...]:
    """The components of a relative path, without empty ones and `.`.

    Raises `UnsafePathError` for anything that could name a file outside the folder the path is joined to: an absolute
    path, `..`, a backslash (a separator elsewhere), NUL, a URL, or text that is not valid unicode; and for a path
    without components.
    """
    if "\0" in path:
        raise UnsafePathError("the path contains NUL")
    if "\\" in path:
        raise UnsafePathError("the path contains a backslash")
    if path.startswith("/"):
        raise UnsafePathError("the path is absolute: image paths must be relative to a root")
    if is_address(path):
        raise UnsafePathError("the path is an address, and only https:// ones are fetched")
    try:
        path.encode()
    except UnicodeEncodeError as error:
        raise UnsafePathError("the path is not valid unicode") from error
    parts = tuple(part for part in path.split("/") if part not in ("", "."))
    if ".." in parts:
        raise UnsafePathError("the path contains `..`")
    if not parts:
        raise UnsafePathError("the path is empty")
    return parts
