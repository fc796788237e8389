"""One object to one local file: in ranges, resumable, hashed on the way, visible only when its sha256 is right."""

import hashlib
import os
import threading
from pathlib import Path
from typing import NamedTuple, Protocol

from caprl_core.errors import CaprlError
from caprl_core.storage.store import Store

RANGE_BYTES = 32 * 2**20
"""Bytes of one request: 4 % of its time are the 30 ms a store takes to begin, at 50 MB/s, and a broken one costs 0.6 s.
Stores that read an object whole for every range, as moto's does, took half the time they took for 8 MiB."""
TRIES = 3
"""Downloads of one object until its sha256 counts as wrong: a damaged transfer is rare, a damaged object stays so."""


class Wanted(NamedTuple):
    """What to fetch: the key to read, where it goes below the folder, and what it must be."""

    key: str
    name: str
    size: int
    sha256: str


class WrongContentError(CaprlError):
    """The object in the store is not the one its commit names."""


class StoppedError(CaprlError):
    """The download was told to stop."""


class Advanced(Protocol):
    """Told each step of a file: bytes it has more (fewer, when it starts again), and bytes that came from the store."""

    def __call__(self, more: int, received: int) -> None:  # noqa: D102
        ...


def fetch(store: Store, wanted: Wanted, path: Path, stop: threading.Event, advanced: Advanced) -> None:
    """Bring an object to `path`. A partial file of an earlier run is taken up where it ends.

    Raises `WrongContentError` after `TRIES` wrong digests (no
    file is left then), `StoreError`, `OSError`, or `StoppedError`; after those the partial file waits for the next run.
    """
    # The digest in the name ties partial bytes to this very object: a later revision never continues them.
    part = path.with_name(f".{path.name}.{wanted.sha256[:16]}.part")
    for _ in range(TRIES):
        if _complete(store, wanted, part, stop, advanced) == wanted.sha256:
            part.replace(path)
            return
        part.unlink()
        advanced(-wanted.size, 0)
    raise WrongContentError(
        f"{store.uri}/{wanted.key} does not have the sha256 its commit names ({wanted.sha256[:16]}…), {TRIES} times: "
        "the stored object was changed; run `caprl verify` there"
    )


def _complete(store: Store, wanted: Wanted, part: Path, stop: threading.Event, advanced: Advanced) -> str:
    """Fill the partial file up to its size; returns the hex digest of all of it."""
    digest = hashlib.sha256()
    with part.open("a+b", buffering=0) as file:
        if file.seek(0, os.SEEK_END) > wanted.size:
            file.truncate(0)
        file.seek(0)
        position = 0
        while chunk := file.read(RANGE_BYTES):
            digest.update(chunk)
            position += len(chunk)
        advanced(position, 0)
        while position < wanted.size:
            if stop.is_set():
                raise StoppedError("stopped")
            data = store.read_range(wanted.key, position, min(RANGE_BYTES, wanted.size - position))
            if not data:
                raise WrongContentError(f"{store.uri}/{wanted.key} ends at {position} of {wanted.size} bytes")
            file.write(data)
            digest.update(data)
            position += len(data)
            advanced(len(data), len(data))
        # A file that is listed as verified must still have its bytes after a power cut.
        os.fsync(file.fileno())
    return digest.hexdigest()


def digest_of(path: Path) -> str:
    """Hex sha256 of a local file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
