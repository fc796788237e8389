"""Addresses of files as text: schemes, joining, brace expansion, and the folder a glob hangs from."""

import re
from collections.abc import Sequence

_WILD = re.compile(r"[*?\[{]")
_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"^(\d+)\.\.(\d+)$")

MOST_ALTERNATIVES = 100_000
"""Names one pattern may expand to: far above any dataset's file count, far below what fills the memory."""


def scheme(uri: str) -> str:
    """`file` for a path, otherwise the part before `://`, in lower case."""
    head, separator, _ = uri.partition("://")
    return head.lower() if separator else "file"


def join(folder: str, relative: str) -> str:
    """The address of `relative` below `folder`; an empty folder is the current one."""
    return f"{folder.rstrip('/')}/{relative}" if folder.strip("/") else f"{folder}{relative}"


def is_pattern(uri: str) -> bool:
    """Whether the address contains `*`, `?`, `[` or `{`. `?` begins the query of an `https://` address instead."""
    return scheme(uri) not in ("http", "https") and _WILD.search(uri) is not None


def literal_folder(uri: str) -> str:
    """The folder part before the first wildcard; for an address without wildcards, the folder it lies in."""
    head = _WILD.split(uri, maxsplit=1)[0] if is_pattern(uri) else uri
    folder, slash, _ = head.rpartition("/")
    if not slash:
        return ""
    return folder or "/"


def base_folder(uri: str, suffixes: Sequence[str]) -> str:
    """The folder that references of this source are relative to, so that moving the data changes no reference.

    An address that neither is a pattern nor ends with one of `suffixes` is itself a folder.
    """
    if is_pattern(uri) or uri.lower().endswith(tuple(suffixes)):
        return literal_folder(uri)
    return uri.rstrip("/") or "/"


def expand_braces(pattern: str) -> list[str]:
    """`a-{000..002}` and `a-{x,y}` written out, in order; zeros in front are kept.

    Raises `ValueError` for more than `MOST_ALTERNATIVES` names.
    """
    patterns = [pattern]
    while any(_BRACES.search(each) for each in patterns):
        expanded: list[str] = []
        for each in patterns:
            match = _BRACES.search(each)
            if match is None:
                expanded.append(each)
                continue
            before, after = each[: match.start()], each[match.end() :]
            for alternative in _alternatives(match.group(1)):
                expanded.append(f"{before}{alternative}{after}")
                if len(expanded) > MOST_ALTERNATIVES:
                    raise ValueError(f"{pattern} expands to more than {MOST_ALTERNATIVES} names")
        patterns = expanded
    return patterns


def _alternatives(body: str) -> Sequence[str]:
    numbers = _RANGE.match(body)
    if numbers is None:
        return body.split(",")
    first, last = numbers.groups()
    low, high = int(first), int(last)
    if abs(high - low) >= MOST_ALTERNATIVES:
        raise ValueError(f"{{{body}}} expands to more than {MOST_ALTERNATIVES} names")
    step = 1 if high >= low else -1
    return [str(number).zfill(len(first)) for number in range(low, high + step, step)]
