"""The rows of one of our datasets as the source of the next stage.

It reads commits, so it lies here and not with the readers of files in `data/sources`, which are below storage.
"""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson

from caprl_core.data.containers import reference
from caprl_core.data.sample import SourceRecord
from caprl_core.data.sources import Source, open_source
from caprl_core.data.sources.fields import make_record
from caprl_core.errors import BadInputError
from caprl_core.recipe.models import SourceRecipe, StorageExecution
from caprl_core.shards.current import Current, current_commits
from caprl_core.shards.dataset import Dataset, open_dataset
from caprl_core.shards.shard_lines import ShardLines, shard_lines
from caprl_core.storage.publish import is_published, published_sizes
from caprl_core.storage.store import Store

THREADS = 4
"""Shards fetched at once: their rows are parsed by one thread, which four requests of 20 ms keep busy."""

_COMMANDS = {"caption": "caprl annotate", "captions": "caprl prism run", "judge": "caprl prism run"}
"""What finishes a stage's dataset; those of a curation are named as their commands are."""

_KEY = re.compile(r"[a-z0-9_-]{1,80}")
"""Keys become names of tar members, which USTAR limits to 100 bytes."""


def open_any_source(source: SourceRecipe, storage: StorageExecution) -> Source:
    """The reader of any kind of source, `stage_rows` included; nothing is read before its first record."""
    return StageRows(source, storage) if source.kind == "stage_rows" else open_source(source, storage)


class StageRows:
    """One record a committed row: the newest revision of each shard, in plan order.

    A record keeps the row's key, record id, original caption and, as its payload, the whole row. Its image is the
    member of the row's tar, or what the row itself says where the tar keeps no images.
    """

    def __init__(self, source: SourceRecipe, storage: StorageExecution) -> None:
        self._source = source
        self._storage = storage

    def records(self) -> Iterator[SourceRecord]:
        """Every row. Raises `BadInputError` for a dataset that is missing, unfinished or not the one meant."""
        dataset = self._dataset()
        current = self._finished(dataset)
        ordinal = 0
        for shard in shard_lines(dataset.store, current.records, threads=THREADS):
            for number, line in enumerate(shard.lines, start=1):
                yield self._record(ordinal, shard, number, line)
                ordinal += 1

    def _dataset(self) -> Dataset:
        uri = self._source.uri
        if "://" not in uri and not Path(uri).expanduser().is_dir():
            # Opening a local store makes its folder, which is wrong for a mistyped name.
            raise BadInputError(f"source {self._source.name}: no dataset at {uri}: there is no such folder")
        try:
            dataset = open_dataset(Store(uri, self._storage))
        except BadInputError as error:
            raise BadInputError(f"source {self._source.name}: {error}") from error
        wanted, found = self._source.upstream, dataset.record.fingerprint
        if wanted is not None and wanted != found:
            raise BadInputError(
                f"source {self._source.name}: {uri} holds dataset {dataset.record.name!r} with fingerprint "
                f"{found[:12]}…, and this recipe was made for {wanted[:12]}…; restore that dataset, or begin a new "
                "output folder"
            )
        return dataset

    def _finished(self, dataset: Dataset) -> Current:
        what = f"source {self._source.name}: dataset {dataset.record.name!r} at {self._source.uri}"
        command = _COMMANDS.get(dataset.record.stage, f"caprl qa {dataset.record.stage}")
        # Before the commits: what is published was committed before.
        sizes = published_sizes(dataset.store)
        current = current_commits(dataset)
        if current.pending:
            raise BadInputError(
                f"{what}: {current.pending} of {dataset.record.samples} samples are pending; finish it with "
                f"`{command}` (`caprl status {self._source.uri}` says what holds them up)"
            )
        hidden = sum(not is_published(record, sizes) for record in current.records)
        if hidden:
            raise BadInputError(f"{what}: {hidden} shards are committed but not published; run `{command}` once more")
        return current

    def _record(self, ordinal: int, shard: ShardLines, number: int, line: bytes) -> SourceRecord:
        where = f"{shard.record.object('jsonl').final_key}: line {number}"
        row: Any = orjson.loads(line)
        if not isinstance(row, dict) or not isinstance(row.get("key"), str) or not _KEY.fullmatch(row["key"]):
            raise BadInputError(f"source {self._source.name}: {where} is no row of this program")
        tar = shard.record.object("tar").final_key.rpartition("/")[2]
        image = reference(tar, row["image_file"]) if "image_file" in row else row.get("image")
        record = make_record(
            ordinal,
            image=image,
            record_id=row.get("record_id"),
            caption=row.get("original_caption"),
            where=where,
        )
        return replace(record, key=row["key"], payload=line.decode().rstrip("\n"))
