"""Records from JSON rows: what the JSON formats share."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from caprl_core.data.files.reader import Files
from caprl_core.data.files.uris import is_pattern
from caprl_core.data.sample import SourceRecord
from caprl_core.data.sources.fields import bad_record, make_record
from caprl_core.data.sources.json_rows import json_rows


@dataclass(frozen=True, slots=True)
class Picked:
    """What a format finds in a row: values of any type, checked later; `field` is where the image was expected."""

    image: Any
    record_id: Any
    caption: Any
    field: str


def annotation_files(files: Files, uri: str) -> list[str]:
    """The address itself, or the matches of a pattern in order."""
    return files.expand(uri, ()) if is_pattern(uri) else [uri]


def json_records(files: Files, uri: str, pick: Callable[[dict[str, Any]], Picked]) -> Iterator[SourceRecord]:
    """Records of all files the address stands for; `ordinal` runs on over the files."""
    ordinal = 0
    for file in annotation_files(files, uri):
        for row in json_rows(files, file):
            if row.problem is None:
                picked = pick(row.value)
                yield make_record(
                    ordinal,
                    image=picked.image,
                    record_id=picked.record_id,
                    caption=picked.caption,
                    where=row.where,
                    field=picked.field,
                )
            else:
                yield bad_record(ordinal, row.problem)
            ordinal += 1
