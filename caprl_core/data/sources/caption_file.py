"""A file of captions beside a benchmark: those of the benchmark's images, and no others, are held."""

from collections.abc import Collection, Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

import ijson

from caprl_core.data.files.reader import Files
from caprl_core.data.sources.fields import CAPTION_FIELDS, IMAGE_FIELDS, first_value
from caprl_core.data.sources.json_records import annotation_files
from caprl_core.data.sources.json_rows import first_character, json_rows
from caprl_core.data.sources.streams import decompressed
from caprl_core.data.sources.turns import last_answer
from caprl_core.data.storable import storable
from caprl_core.errors import BadInputError
from caprl_core.recipe.models import CaptionFileRecipe

MOST_CAPTIONS = 64
"""Of one image: as many as a captioner may be asked for."""


def match_value(path: str, recipe: CaptionFileRecipe) -> str:
    """What an image's value in the file is compared by: of `path` what `recipe.match` says. Ids stay as they are."""
    match recipe.match:
        case "name":
            return PurePosixPath(path).name
        case "stem":
            return PurePosixPath(path).stem
        case "path":
            return path.removeprefix("file://").lstrip("/")
        case "id":
            return path


def captions_of(files: Files, recipe: CaptionFileRecipe, wanted: Collection[str]) -> dict[str, list[str]]:
    """The captions of the images with the match values `wanted`, in the order of the file; several rows add up.

    Memory grows with `wanted`, not with the file. Raises `BadInputError` for a row without image or caption, for more
    than 64 captions of an image, and for a file that holds a caption of none of them.
    """
    found: dict[str, list[str]] = {}
    rows = 0
    for where, image, captions in _rows(files, recipe):
        rows += 1
        value = match_value(image, recipe)
        if value not in wanted:
            continue
        known = found.setdefault(value, [])
        known.extend(captions)
        if len(known) > MOST_CAPTIONS:
            raise BadInputError(f"{where}: more than {MOST_CAPTIONS} captions of {value!r}; is `match` too coarse?")
    if wanted and not found:
        raise BadInputError(
            f"{recipe.uri}: none of its {rows} rows is about an image of the benchmark; images are told by "
            f"`match: {recipe.match}`, as in {next(iter(wanted))!r}"
        )
    return found


def _rows(files: Files, recipe: CaptionFileRecipe) -> Iterator[tuple[str, str, list[str]]]:
    for file in annotation_files(files, recipe.uri):
        if _is_one_object(files, file):
            yield from _members(files, file)
            continue
        for row in json_rows(files, file):
            if row.problem is not None:
                raise BadInputError(row.problem)
            yield row.where, _image(row.value, recipe, row.where), _captions(row.value, recipe, row.where)


def _is_one_object(files: Files, uri: str) -> bool:
    """Whether the file is one JSON object of image -> caption: its first value is text, and a second line follows or
    nothing does; an object a line has several kinds of keys, `image` and the like among them."""
    with decompressed(files, uri) as stream:
        start, _ = first_character(stream)
        if start != b"{":
            return False
        try:
            first = next(ijson.kvitems(stream, "", use_float=True), None)
        except (ijson.JSONError, UnicodeDecodeError):
            return False
        known = {*IMAGE_FIELDS, *CAPTION_FIELDS, "id", "key", "source", "conversations"}
        return first is not None and isinstance(first[1], str | list) and first[0] not in known


def _members(files: Files, uri: str) -> Iterator[tuple[str, str, list[str]]]:
    with decompressed(files, uri) as stream:
        first_character(stream)
        try:
            for number, (image, value) in enumerate(ijson.kvitems(stream, "", use_float=True), start=1):
                where = f"{uri}: entry {number}"
                yield where, image, _texts(value, where)
        except (ijson.JSONError, UnicodeDecodeError) as error:
            raise BadInputError(f"{uri}: the JSON is broken ({' '.join(str(error).split())[:200]})") from error


def _image(row: Mapping[str, Any], recipe: CaptionFileRecipe, where: str) -> str:
    names = ("id", "image_id", "key") if recipe.match == "id" else IMAGE_FIELDS
    image = row.get(recipe.image_field) if recipe.image_field else first_value(row, names)
    if isinstance(image, list) and len(image) == 1:
        image = image[0]
    if isinstance(image, Mapping):
        image = image.get("path")
    if not isinstance(image, str) or not image:
        raise BadInputError(f"{where}: no `{recipe.image_field or names[0]}` that names an image; set image_field")
    return image


def _captions(row: Mapping[str, Any], recipe: CaptionFileRecipe, where: str) -> list[str]:
    value = row.get(recipe.caption_field) if recipe.caption_field else first_value(row, ("captions", *CAPTION_FIELDS))
    if value is None and recipe.caption_field is None:
        value = last_answer(dict(row))
    if value is None and recipe.caption_field is None and any(name in row for name in CAPTION_FIELDS):
        # An empty caption is a caption: of nothing that was said.
        value = ""
    return _texts(value, where)


def _texts(value: Any, where: str) -> list[str]:
    texts = value if isinstance(value, list) else [value]
    if not texts or not all(isinstance(text, str) for text in texts):
        raise BadInputError(f"{where}: no caption; set caption_field")
    return [storable(text) for text in texts]
