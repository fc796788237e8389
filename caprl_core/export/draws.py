"""Seeded draws by hash: the same text and seed always draw the same number, whatever else is exported."""

import hashlib

DRAW_BITS = 64
"""Among 5,000,000 keys two share a number with probability 7e-7, and then both fall on the same side of a border."""


def draw(purpose: str, seed: int, text: str) -> int:
    """A number in [0, 2**DRAW_BITS). `purpose` keeps draws with one seed for several ends independent of each other."""
    name = f"{purpose}\0{seed}\0{text}".encode("utf-8", "replace")
    return int.from_bytes(hashlib.blake2b(name, digest_size=DRAW_BITS // 8).digest(), "big")
