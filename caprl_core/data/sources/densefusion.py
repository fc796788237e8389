"""DenseFusion annotation files: JSON lines of `image_id`, `url`, a caption and sometimes `image`."""

from collections.abc import Iterator
from typing import Any

from caprl_core.data.files.reader import Files
from caprl_core.data.sample import SourceRecord
from caprl_core.data.sources.fields import CAPTION_FIELDS, first_value
from caprl_core.data.sources.json_records import Picked, json_records
from caprl_core.data.sources.turns import last_answer
from caprl_core.recipe.models import SourceRecipe


class DenseFusion:
    """`DenseFusion-1M.jsonl`; without `image` the file name is `<image_id>.png`, as its own downloader saves it."""

    def __init__(self, files: Files, source: SourceRecipe) -> None:
        self._files = files
        self._source = source

    def records(self) -> Iterator[SourceRecord]:
        """One record a line."""
        return json_records(self._files, self._source.uri, self._pick)

    def _pick(self, row: dict[str, Any]) -> Picked:
        image_field = self._source.image_field or "image"
        image = row.get(image_field)
        image_id = row.get("image_id")
        if image is None and self._source.image_field is None and isinstance(image_id, str | int):
            image = f"{image_id}.png"
        caption_field = self._source.caption_field
        # The column's published name could not be verified, so the usual ones are tried.
        caption = row.get(caption_field) if caption_field else first_value(row, CAPTION_FIELDS) or last_answer(row)
        record_id = row.get(self._source.id_field or "image_id")
        return Picked(image=image, record_id=record_id, caption=caption, field=image_field)
