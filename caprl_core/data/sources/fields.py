"""From the values a row happens to hold to the fields of a record, whatever their types."""

from collections.abc import Iterable, Mapping
from typing import Any

from caprl_core.data.sample import SourceRecord
from caprl_core.data.storable import storable

IMAGE_FIELDS = ("image", "image_path", "path", "file_name", "filename", "file", "filepath", "image_url", "url")
CAPTION_FIELDS = ("caption", "text", "description", "dense_caption", "detailed_caption", "long_caption", "captions")
ID_FIELDS = ("id", "image_id", "uid", "key", "__key__")
"""Names tried in this order where the recipe names no field; seen in LLaVA, COCO, LAION and DenseFusion derivatives."""


def first_present(names: Iterable[str], present: Iterable[str]) -> str | None:
    """The first of `names` that is present, or None."""
    available = set(present)
    return next((name for name in names if name in available), None)


def first_value(row: Mapping[str, Any], names: Iterable[str]) -> Any:
    """The first value under `names` that is neither None nor empty, or None."""
    return next((row[name] for name in names if row.get(name) not in (None, "", [], {})), None)


def clean_text(value: Any) -> str | None:
    """Text as unicode that every format can store; the first of a list of texts; None for anything else or empty."""
    if isinstance(value, list) and value:
        value = value[0]
    if not isinstance(value, str) or not value:
        return None
    return storable(value)


def make_record(
    ordinal: int, *, image: Any, record_id: Any = None, caption: Any = None, where: str, field: str = "image"
) -> SourceRecord:
    """A record of these values, with `problem` set where the image is not a usable piece of text.

    `where` names file and row, `field` the field the image was expected in.
    """
    problem = None
    if image is None:
        problem = f"{where}: no `{field}`"
    elif not isinstance(image, str):
        problem = f"{where}: `{field}` is a {type(image).__name__}, not text"
    elif not image.strip():
        problem = f"{where}: `{field}` is empty"
    elif not _is_unicode(image):
        problem = f"{where}: `{field}` is not valid unicode"
    return SourceRecord(
        image=(clean_text(image) or "") if isinstance(image, str) else "",
        ordinal=ordinal,
        record_id=_identifier(record_id),
        caption=clean_text(caption),
        problem=problem,
    )


def bad_record(ordinal: int, problem: str) -> SourceRecord:
    """A record of which nothing can be used; `problem` names file and row."""
    return SourceRecord(image="", ordinal=ordinal, problem=clean_text(problem))


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _identifier(value: Any) -> str | None:
    if isinstance(value, bool) or not isinstance(value, int | str):
        return None
    return clean_text(str(value))
