"""Benchmarks as sources: one record an image, with all questions about it, and its captions where they are given."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from caprl_core.data.files.reader import Files
from caprl_core.data.sample import SourceRecord
from caprl_core.data.sources import benchmark_forms
from caprl_core.data.sources.benchmark_forms import Asked, Form
from caprl_core.data.sources.caption_file import captions_of, match_value
from caprl_core.data.sources.fields import make_record
from caprl_core.data.sources.json_records import annotation_files
from caprl_core.data.sources.json_rows import json_rows
from caprl_core.data.sources.payloads import with_payload
from caprl_core.errors import BadInputError
from caprl_core.recipe.models import CaptionFileRecipe, SourceKind, SourceRecipe

FORMS: dict[SourceKind, Form] = {
    "benchmark_released": benchmark_forms.released,
    "benchmark_questions": benchmark_forms.plain,
    "benchmark_captionqa": benchmark_forms.captionqa,
}


class BenchmarkRow(NamedTuple):
    """A question, its id within the benchmark, and where it stands, for messages."""

    where: str
    id: str
    asked: Asked


@dataclass(slots=True)
class _Image:
    where: str
    asked: Asked
    questions: list[dict[str, Any]] = field(default_factory=list)


class Benchmark:
    """A benchmark, whole in memory: the largest has some 10,000 questions.

    The payload of a record is `questions` (each with `id`, `text`, `options`, `answers`, `system`) and, of a source
    with a caption file, `captions` (texts). Rows that are no questions end the reading: a benchmark without them would
    be another one.
    """

    def __init__(self, files: Files, source: SourceRecipe) -> None:
        self._files = files
        self._source = source

    def questions(self) -> Iterator[BenchmarkRow]:
        """Every question in the order of the file. Raises `BadInputError` for a row that holds none."""
        form = FORMS[self._source.kind]
        seen: set[str] = set()
        number = 0
        for file in annotation_files(self._files, self._source.uri):
            for row in json_rows(self._files, file):
                if row.problem is not None:
                    raise BadInputError(row.problem)
                try:
                    for asked in form(row.value):
                        own = asked.id if asked.id is not None and asked.id not in seen else f"row-{number}"
                        seen.add(own)
                        yield BenchmarkRow(row.where, own, asked)
                        number += 1
                except ValueError as error:
                    raise BadInputError(f"{row.where}: {error}; repair the row or take it out") from error

    def records(self) -> Iterator[SourceRecord]:
        """One record an image, in the order in which images are first asked about."""
        images: dict[tuple[str, ...], _Image] = {}
        for where, own, asked in self.questions():
            image = images.setdefault(asked.images, _Image(where, asked))
            image.questions.append({"id": own, **asked.question})
        captions = self._captions(images)
        for ordinal, (paths, image) in enumerate(images.items()):
            record = make_record(ordinal, image=paths[0], record_id=image.asked.image_id, where=image.where)
            payload: dict[str, Any] = {"questions": image.questions}
            if len(paths) > 1:
                record = replace(record, problem=f"{image.where}: {len(paths)} images; a caption is of one")
            elif captions is not None and self._source.captions is not None:
                mine = captions.get(_value(image.asked, self._source.captions))
                if mine is None:
                    problem = f"{image.where}: no caption of it in {self._source.captions.uri}"
                    record = replace(record, problem=record.problem or problem)
                payload["captions"] = mine
            yield with_payload(record, payload, image.where)

    def _captions(self, images: dict[tuple[str, ...], _Image]) -> dict[str, list[str]] | None:
        recipe = self._source.captions
        if recipe is None:
            return None
        return captions_of(self._files, recipe, {_value(image.asked, recipe) for image in images.values()})


def _value(asked: Asked, recipe: CaptionFileRecipe) -> str:
    """What the captions' file calls the image of a question."""
    if recipe.match == "id":
        return asked.image_id or asked.images[0]
    return match_value(asked.images[0], recipe)
