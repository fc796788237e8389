"""What a factory has published: datasets with their captioner and evaluation, numbered, never changed."""

import datetime as dt
from typing import Any

from pydantic import Field, ValidationError

from caprl_core.captioning.stage import CaptionStage
from caprl_core.errors import BadInputError, ObjectExistsError, StoreError
from caprl_core.export.card import dataset_card
from caprl_core.export.jsonl import export_jsonl
from caprl_core.prism.compare import Comparison
from caprl_core.recipe.models import StorageExecution, Strict
from caprl_core.shards.dataset import Dataset
from caprl_core.storage.store import Store

RECORD = "publication.json"
"""Written last: a folder without it is none."""


class PublishedFile(Strict):
    """A file below the publication's folder."""

    name: str
    rows: int
    size: int = Field(description="Bytes.")
    sha256: str


class Publication(Strict):
    """A dataset as it was published: what it is, who made it, and why it was found good enough."""

    schema_version: int = 1
    number: int = Field(description="1 for the first.")
    dataset: str = Field(description="Address of its shards.")
    fingerprint: str = Field(description="Of its recipe.")
    captioner: str = Field(description="Name and digest of the captioner.")
    captioner_uri: str
    questions: str | None = Field(description="Id of the curated set it was trained on; null for questions of its own.")
    evaluation: str = Field(description="Folder of the results.")
    compared_with: str = Field(description="Name of the captioner it was held against.")
    difference: float = Field(description="Macro average less that of the other, on the same questions.")
    low: float | None = Field(description="Lower end of the paired interval of the difference.")
    high: float | None
    rows: int
    rejected: int
    files: tuple[PublishedFile, ...]
    published: str = Field(description="When, ISO 8601, UTC.")


def publications(store: Store) -> list[Publication]:
    """Everything published, the oldest first. Raises `StoreError` for a record that is none."""
    found = []
    for item in store.list(""):
        if item.key.endswith(f"/{RECORD}") and item.key.count("/") == 1:
            try:
                found.append(Publication.model_validate_json(store.get(item.key)))
            except ValidationError as error:
                raise StoreError(f"{store.uri}/{item.key} is no record of a publication: {error}") from error
    return sorted(found, key=lambda one: one.number)


def published_before(store: Store, fingerprint: str, captioner: str) -> Publication | None:
    """The newest publication if it is of this dataset by this captioner."""
    newest = next(reversed(publications(store)), None)
    return newest if newest is not None and (newest.fingerprint, newest.captioner) == (fingerprint, captioner) else None


def publish(
    store: Store,
    dataset: Dataset,
    comparison: Comparison,
    facts: dict[str, Any],
    *,
    licence: str | None,
    storage: StorageExecution,
    scratch: str | None,
) -> Publication:
    """Write captions, card and record of a publication, the next number; returns the record.

    `facts` are the fields of the record that nobody here knows: captioner, captioner_uri, questions, evaluation. Raises
    `IncompleteError` while samples are pending, `BadInputError` when another process publishes at the same time.
    """
    number = max((one.number for one in publications(store)), default=0) + 1
    folder = f"{number:06d}"
    name = f"{dataset.record.name}.jsonl"
    report = export_jsonl(dataset, f"{store.uri}/{folder}/{name}", storage=storage, scratch=scratch)
    store.put(f"{folder}/README.md", dataset_card(dataset, CaptionStage.fields, licence=licence).encode())
    difference = comparison.macro.difference
    record = Publication(
        number=number,
        dataset=dataset.store.uri,
        fingerprint=dataset.record.fingerprint,
        compared_with=comparison.first,
        difference=difference.value,
        low=difference.low,
        high=difference.high,
        rows=report.rows,
        rejected=report.rejected,
        files=tuple(PublishedFile(**item._asdict()) for item in report.files),
        published=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        **facts,
    )
    try:
        store.create(f"{folder}/{RECORD}", record.model_dump_json(indent=1).encode() + b"\n")
    except ObjectExistsError as error:
        raise BadInputError(
            f"{store.uri}/{folder}: somebody else has published this number meanwhile; run the factory again"
        ) from error
    return record
