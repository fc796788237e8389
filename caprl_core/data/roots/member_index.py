"""Where the members of a container lie, in a few bytes each: five million of them fit into 400 MB."""

import hashlib
import os
from array import array
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

MOST_SUFFIXES = 4
"""Shorter forms a member is also known by: `a/b/c.jpg` is found as `b/c.jpg` and `c.jpg`."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where one member lies: byte offset, bytes to read there, and the CRC-32 of its content (0 where unknown)."""

    offset: int
    size: int
    crc: int = 0


class MemberIndex:
    """Members by path. Paths are kept as keyed 64-bit hashes: no archive can be made to collide on purpose, and by
    chance two of five million do so once in a million archives."""

    def __init__(self, members: Iterable[tuple[str, Place]]) -> None:
        self._secret = os.urandom(16)
        hashes, offsets, sizes, crcs = array("Q"), array("Q"), array("Q"), array("I")
        ranks = array("B")
        for name, place in members:
            parts = _parts(name)
            if parts is None:
                continue
            for rank in range(min(len(parts), MOST_SUFFIXES + 1)):
                hashes.append(self._hash("/".join(parts[rank:])))
                offsets.append(place.offset)
                sizes.append(place.size)
                crcs.append(place.crc)
                ranks.append(rank)
        all_hashes = np.frombuffer(hashes, np.uint64) if hashes else np.empty(0, np.uint64)
        order = np.argsort(all_hashes, kind="stable")
        self._hashes = all_hashes[order]
        self._offsets = _sorted(offsets, np.dtype(np.uint64), order)
        self._sizes = _sorted(sizes, np.dtype(np.uint64), order)
        self._crcs = _sorted(crcs, np.dtype(np.uint32), order)
        self._ranks = _sorted(ranks, np.dtype(np.uint8), order)

    def exact(self, path: str) -> Place | None:
        """The member of exactly this path; of several the last, as archives that were appended to mean it."""
        rows = [row for row in self._rows(path) if self._ranks[row] == 0]
        return self._place(rows[-1]) if rows else None

    def ending_in(self, path: str) -> list[Place]:
        """The members whose path ends in these components."""
        return [self._place(row) for row in self._rows(path) if self._ranks[row] > 0]

    def _rows(self, path: str) -> range:
        wanted = np.uint64(self._hash(path))
        return range(
            int(np.searchsorted(self._hashes, wanted, "left")), int(np.searchsorted(self._hashes, wanted, "right"))
        )

    def _place(self, row: int) -> Place:
        return Place(int(self._offsets[row]), int(self._sizes[row]), int(self._crcs[row]))

    def _hash(self, path: str) -> int:
        data = path.encode("utf-8", "surrogateescape")
        return int.from_bytes(hashlib.blake2b(data, digest_size=8, key=self._secret).digest(), "little")


def _parts(name: str) -> list[str] | None:
    """Components of a member's name, or None for one that no safe path can ask for."""
    if name.startswith("/") or "\\" in name or "\0" in name or len(name) > 4096:
        return None
    parts = [part for part in name.split("/") if part not in ("", ".")]
    return None if ".." in parts or not parts else parts


def _sorted(
    values: "array[int]", kind: "np.dtype[np.generic]", order: "np.ndarray[tuple[int], np.dtype[np.int64]]"
) -> "np.ndarray[tuple[int], np.dtype[np.generic]]":
    return np.frombuffer(values, kind)[order] if len(values) else np.empty(0, kind)
