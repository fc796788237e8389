"""LLaVA- and ShareGPT-style files, a JSON array or JSON lines, with `image` or an `images` list."""

from collections.abc import Iterator
from typing import Any

from caprl_core.data.files.reader import Files
from caprl_core.data.sample import SourceRecord
from caprl_core.data.sources.fields import ID_FIELDS, first_value
from caprl_core.data.sources.json_records import Picked, json_records
from caprl_core.data.sources.turns import last_answer
from caprl_core.recipe.models import SourceRecipe


class Conversations:
    """The first image of each conversation; the caption is the last answer."""

    def __init__(self, files: Files, source: SourceRecipe) -> None:
        self._files = files
        self._source = source

    def records(self) -> Iterator[SourceRecord]:
        """One record a conversation."""
        return json_records(self._files, self._source.uri, self._pick)

    def _pick(self, row: dict[str, Any]) -> Picked:
        fields = (self._source.image_field,) if self._source.image_field else ("image", "images")
        image = first_value(row, fields)
        if isinstance(image, list):
            image = image[0]
        if isinstance(image, dict):
            # `datasets` and several exporters write {"path": …} or {"bytes": …, "path": …}.
            image = image.get("path")
        caption_field = self._source.caption_field
        return Picked(
            image=image,
            record_id=row.get(self._source.id_field) if self._source.id_field else first_value(row, ID_FIELDS),
            caption=row.get(caption_field) if caption_field else last_answer(row),
            field=" or ".join(fields),
        )
