"""Uniform whole numbers decided by a text alone, the same on every machine and version."""

import hashlib


class SeededNumbers:
    """Uniform whole numbers from a text alone: Python's own generators promise no stable shuffle across versions."""

    def __init__(self, text: str) -> None:
        self._state = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=32)
        self._count = 0

    def below(self, limit: int) -> int:
        """0 to `limit` - 1. The bias of the remainder is below limit / 2**64."""
        drawn = self._state.copy()
        drawn.update(b"/%d" % self._count)
        self._count += 1
        return int.from_bytes(drawn.digest()[:8], "big") % limit
