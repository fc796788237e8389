"""The list of images that must not be trained on: one sha256 a line."""

import hashlib
import re
from contextlib import closing
from typing import NamedTuple

from caprl_core.data.files.reader import Files
from caprl_core.errors import BadInputError
from caprl_core.recipe.models import StorageExecution

_DIGEST = re.compile(rb"[0-9a-fA-F]{64}")
LINE_BYTES = 4096
"""A line longer than this is no digest, whatever follows."""


class Decontamination(NamedTuple):
    """The digests (hex, lower case), and the sha256 of them all, sorted: what the list says, not how it is written."""

    images: frozenset[str]
    content: str


def read_decontamination(address: str, storage: StorageExecution) -> Decontamination:
    """Read a list from a local path or an `s3://` or `https://` address; empty lines and `#` comments are passed over.

    Raises `BadInputError`, naming the line, for anything but 64 hex digits, or when there is no such file.
    """
    images = set()
    with closing(Files(storage)) as files, files.open(address) as stream:
        number = 0
        while line := stream.readline(LINE_BYTES):
            number += 1
            text = line.partition(b"#")[0].strip()
            if not text:
                continue
            if _DIGEST.fullmatch(text) is None:
                raise BadInputError(f"{address}, line {number}: not a sha256 of 64 hex digits: {text[:80]!r}")
            images.add(text.decode("ascii").lower())
    return Decontamination(frozenset(images), hashlib.sha256("\n".join(sorted(images)).encode()).hexdigest())
