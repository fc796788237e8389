"""What a record brings along besides its image, as JSON text of bounded size."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from caprl_core.data.row import encode_line
from caprl_core.data.sample import SourceRecord

MOST_PAYLOAD = 4 * 2**20
"""Bytes of one payload: a long reply has 10 kB; twenty questions in each of 40 shapes stay below 1 MB."""


def with_payload(record: SourceRecord, payload: Mapping[str, Any], where: str) -> SourceRecord:
    """The record with its payload, or with a problem where the payload is too large or nothing JSON can carry.

    A record that has a problem already is returned as it is. `where` names file and row.
    """
    if record.problem is not None:
        return record
    try:
        line = encode_line(payload)
    except (TypeError, ValueError, RecursionError) as error:
        return replace(record, problem=f"{where}: cannot be kept as JSON ({error})")
    if len(line) > MOST_PAYLOAD:
        return replace(record, problem=f"{where}: {len(line)} bytes, {MOST_PAYLOAD} at most")
    return replace(record, payload=line.decode().rstrip("\n"))
