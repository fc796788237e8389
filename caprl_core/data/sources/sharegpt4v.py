"""ShareGPT4V annotation files: a JSON array of `image`, `conversations` and sometimes `id`."""

from collections.abc import Iterator
from typing import Any

from caprl_core.data.files.reader import Files
from caprl_core.data.sample import SourceRecord
from caprl_core.data.sources.json_records import Picked, json_records
from caprl_core.data.sources.turns import last_answer
from caprl_core.recipe.models import SourceRecipe


class ShareGPT4V:
    """`share-captioner_coco_lcs_sam_1246k_1107.json` and its siblings; the caption is the last answer."""

    def __init__(self, files: Files, source: SourceRecipe) -> None:
        self._files = files
        self._source = source

    def records(self) -> Iterator[SourceRecord]:
        """One record an object of the array."""
        return json_records(self._files, self._source.uri, self._pick)

    def _pick(self, row: dict[str, Any]) -> Picked:
        image_field = self._source.image_field or "image"
        caption_field = self._source.caption_field
        return Picked(
            image=row.get(image_field),
            record_id=row.get(self._source.id_field or "id"),
            caption=row.get(caption_field) if caption_field else last_answer(row),
            field=image_field,
        )
