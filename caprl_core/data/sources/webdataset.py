"""WebDataset tars: members that share a key are one record."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import BufferedReader
from typing import Any

import orjson

from caprl_core.data.containers import TAR, base_folder, container_name, reference
from caprl_core.data.files.reader import Files
from caprl_core.data.files.tars import HOP_BLOCK, TarMember, tar_members
from caprl_core.data.image_names import IMAGE_EXTENSIONS
from caprl_core.data.sample import SourceRecord
from caprl_core.data.sources.fields import CAPTION_FIELDS, bad_record, first_value, make_record
from caprl_core.data.sources.turns import last_answer
from caprl_core.recipe.models import SourceRecipe

_KEY = re.compile(r"^((?:.*/)?[^./][^./]*)\.([^/]+)$", re.DOTALL)
"""WebDataset's rule: the key is the path up to the first dot of the basename, the rest is the extension."""

MOST_TEXT = 2**20
"""Bytes of a .txt or .json member that is read for its caption; longer ones are no captions."""


@dataclass(slots=True)
class _Group:
    """The members of one key, so far."""

    key: str
    images: dict[str, str] = field(default_factory=dict)
    text: str | None = None
    facts: dict[str, Any] = field(default_factory=dict)


class WebDataset:
    """One record a key, referred to as `<tar>#<member>`.

    Of several images under a key the first by `IMAGE_EXTENSIONS` is taken, plain extensions (`jpg`) before compound
    ones (`left.jpg`); `image_field` names another extension. A `.txt` member is the caption, or a caption field of the
    `.json` member; the recipe's `caption_field` is looked up in the `.json` first.
    """

    def __init__(self, files: Files, source: SourceRecipe) -> None:
        self._files = files
        self._source = source
        self._extension = source.image_field.lower().lstrip(".") if source.image_field else None

    def records(self) -> Iterator[SourceRecord]:
        """Keys of all tars in order."""
        base = base_folder(self._source.uri, TAR)
        ordinal = 0
        for uri in self._files.expand(self._source.uri, TAR):
            container = container_name(base, uri)
            seen: set[str] = set()
            for group in self._groups(uri):
                yield self._record(ordinal, uri, container, group, seen)
                ordinal += 1

    def _groups(self, uri: str) -> Iterator[_Group]:
        """Runs of consecutive members with the same key."""
        group: _Group | None = None
        length = self._files.size(uri)
        with self._files.open(uri, HOP_BLOCK) as stream:
            for member in tar_members(stream, uri, length):
                match = _KEY.match(member.name)
                if match is None:
                    continue
                key, extension = match.group(1), match.group(2).lower()
                if group is None or group.key != key:
                    if group is not None:
                        yield group
                    group = _Group(key)
                self._add(group, extension, member, stream)
        if group is not None:
            yield group

    def _add(self, group: _Group, extension: str, member: TarMember, stream: BufferedReader) -> None:
        if extension.rpartition(".")[2] in IMAGE_EXTENSIONS or extension == self._extension:
            group.images.setdefault(extension, member.name)
        elif extension in ("txt", "json") and member.size <= MOST_TEXT:
            stream.seek(member.offset)
            data = stream.read(member.size)
            if extension == "txt":
                group.text = data.decode("utf-8", "replace")
            else:
                group.facts = _json_object(data)

    def _record(self, ordinal: int, uri: str, container: str, group: _Group, seen: set[str]) -> SourceRecord:
        where = f"{uri}: key {group.key!r}"
        name = self._image(group)
        if name is None:
            wanted = f"`.{self._extension}`" if self._extension else "image"
            return bad_record(ordinal, f"{where}: no {wanted} member")
        if name in seen:
            return bad_record(ordinal, f"{where}: member {name!r} is there more than once in the tar")
        seen.add(name)
        caption_field, id_field = self._source.caption_field, self._source.id_field
        named = group.facts.get(caption_field) if caption_field else None
        guessed = group.text or first_value(group.facts, CAPTION_FIELDS) or last_answer(group.facts)
        return make_record(
            ordinal,
            image=reference(container, name),
            record_id=group.facts.get(id_field) if id_field else group.key,
            caption=named if caption_field else guessed,
            where=where,
        )

    def _image(self, group: _Group) -> str | None:
        if self._extension is not None:
            return group.images.get(self._extension)
        if not group.images:
            return None
        return group.images[min(group.images, key=_preference)]


def _preference(extension: str) -> tuple[bool, int, str]:
    return "." in extension, IMAGE_EXTENSIONS.index(extension.rpartition(".")[2]), extension


def _json_object(data: bytes) -> dict[str, Any]:
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError:
        return {}
    return value if isinstance(value, dict) else {}
