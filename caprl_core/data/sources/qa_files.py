"""The files of the released question curation: blocks (step 1), question lists (step 2), and lists with votes (step 3).

Nothing in them is evaluated: what a block or a question is, extraction says later, with reasons.
"""

import io
from collections.abc import Iterator
from typing import Any

import ijson

from caprl_core.data.files.reader import Files
from caprl_core.data.sample import SourceRecord
from caprl_core.data.sources.fields import bad_record, make_record
from caprl_core.data.sources.json_records import annotation_files
from caprl_core.data.sources.json_rows import JsonRow, first_character, json_lines, json_rows
from caprl_core.data.sources.payloads import with_payload
from caprl_core.data.sources.streams import decompressed
from caprl_core.recipe.models import SourceRecipe

IMAGE_FIELD = "image_path"
"""The key of the image in all of these files, unless the recipe names another."""


class QaBlocks:
    """Step 1: JSON lines of `image_path` and `qa_response`, the writer's whole reply.

    The payload is that of a generated row: `block`, and `finish_reason` null, as nobody recorded whether it was cut.
    """

    def __init__(self, files: Files, source: SourceRecipe) -> None:
        self._files = files
        self._source = source

    def records(self) -> Iterator[SourceRecord]:
        """One record a reply."""
        ordinal = 0
        for file in annotation_files(self._files, self._source.uri):
            for row in json_rows(self._files, file):
                yield self._record(ordinal, row)
                ordinal += 1

    def _record(self, ordinal: int, row: JsonRow) -> SourceRecord:
        if row.problem is not None:
            return bad_record(ordinal, row.problem)
        block = row.value.get("qa_response")
        if not isinstance(block, str):
            return bad_record(ordinal, f"{row.where}: `qa_response` is {_kind(block)}, not text")
        record = _image_record(ordinal, row.value, row.where, self._source)
        return with_payload(record, {"block": block, "finish_reason": None}, row.where)


class QaLists:
    """Step 2: a JSON array or JSON lines of `image_path` and `qa_list`; or step 3: lines of `[sample, visual, text]`.

    The payload is `questions`, the list as it is, and of step 3 also `released_votes` (`visual` and `text`, flat lists,
    question by question). Those votes are kept to look at and are no evidence: they name neither question nor order of
    the options nor reply, and counted every reply as right that held the letter anywhere.
    """

    def __init__(self, files: Files, source: SourceRecipe) -> None:
        self._files = files
        self._source = source

    def records(self) -> Iterator[SourceRecord]:
        """One record an image."""
        ordinal = 0
        for file in annotation_files(self._files, self._source.uri):
            if _is_step_3(self._files, file):
                for line in json_lines(self._files, file):
                    yield self._voted(ordinal, line.value, line.where, line.problem)
                    ordinal += 1
            else:
                for row in json_rows(self._files, file):
                    yield self._listed(ordinal, row.value, row.where, row.problem, {})
                    ordinal += 1

    def _voted(self, ordinal: int, value: Any, where: str, problem: str | None) -> SourceRecord:
        if problem is None and not (isinstance(value, list) and len(value) == 3 and isinstance(value[0], dict)):
            problem = f"{where}: not a list of a sample and two lists of votes"
        if problem is not None:
            return bad_record(ordinal, problem)
        sample, visual, text = value
        return self._listed(ordinal, sample, where, None, {"released_votes": {"visual": visual, "text": text}})

    def _listed(
        self, ordinal: int, sample: dict[str, Any], where: str, problem: str | None, more: dict[str, Any]
    ) -> SourceRecord:
        if problem is not None:
            return bad_record(ordinal, problem)
        questions = sample.get("qa_list")
        if not isinstance(questions, list):
            return bad_record(ordinal, f"{where}: `qa_list` is {_kind(questions)}, not a list")
        record = _image_record(ordinal, sample, where, self._source)
        return with_payload(record, {"questions": questions, **more}, where)


def _image_record(ordinal: int, row: dict[str, Any], where: str, source: SourceRecipe) -> SourceRecord:
    field = source.image_field or IMAGE_FIELD
    return make_record(
        ordinal,
        image=row.get(field),
        record_id=row.get(source.id_field) if source.id_field else None,
        caption=row.get(source.caption_field) if source.caption_field else None,
        where=where,
        field=field,
    )


def _is_step_3(files: Files, uri: str) -> bool:
    """Whether the first line is a list by itself in which a list follows the sample; in an array of samples none does.

    What cannot be parsed so far is left to the reader of arrays, which says where it is broken.
    """
    with decompressed(files, uri) as stream:
        first_character(stream)
        try:
            items = ijson.items(_FirstLine(stream), "item", use_float=True)
            next(items, None)
            return isinstance(next(items, None), list)
        except (ijson.JSONError, UnicodeDecodeError):
            return False


class _FirstLine:
    """A stream for ijson that ends with the line: an array may be all of its file, so it is not read into memory."""

    def __init__(self, stream: io.BufferedReader) -> None:
        self._stream = stream
        self._ended = False

    def read(self, size: int = -1) -> bytes:
        """Up to `size` bytes of the line."""
        data = b"" if self._ended else self._stream.readline(size)
        self._ended = self._ended or (size != 0 and (not data or data.endswith(b"\n")))
        return data


def _kind(value: Any) -> str:
    return "missing" if value is None else f"a {type(value).__name__}"
