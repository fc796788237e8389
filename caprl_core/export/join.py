"""Captions joined back to the source's own records: the same images and questions, the captions swapped.

The comparison of the paper's Table 2: an annotation file as it was published, the last answer of each record replaced
by our caption of its image, everything else as it stood.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Literal, NamedTuple, get_args

from caprl_core.data.files.reader import Files
from caprl_core.data.row import encode_line
from caprl_core.data.sample import SourceRecord
from caprl_core.data.sources import open_source
from caprl_core.data.sources.json_rows import JsonRow, first_character, json_rows
from caprl_core.data.sources.streams import decompressed
from caprl_core.errors import BadInputError
from caprl_core.export.caption_index import CaptionIndex
from caprl_core.export.joined_record import is_balanced, with_caption
from caprl_core.export.lines import LineWriter
from caprl_core.export.manifest import manifest_of
from caprl_core.export.markers import escape
from caprl_core.export.outputs import Outputs, WrittenFile, file_address
from caprl_core.export.reading import Progress, Reading
from caprl_core.export.subsets import Division
from caprl_core.export.trainers.trainer import Layout
from caprl_core.recipe.models import SourceKind, SourceRecipe, StorageExecution
from caprl_core.shards.dataset import Dataset

Unmatched = Literal["drop", "keep"]
"""What becomes of records without a caption of ours."""
UNMATCHED: tuple[Unmatched, ...] = get_args(Unmatched)

_JSON_KINDS: tuple[SourceKind, ...] = ("sharegpt4v", "conversations", "densefusion", "table")
"""Kinds of sources whose records are objects of a JSON file."""


class JoinReport(NamedTuple):
    """What became of the records.

    records: in the source's file. joined: with our caption. unmatched: without one, kept or dropped as asked.
    unreadable: no object, or nothing in it to put a caption in; dropped. unbalanced: joined, but the source's own turns
    hold another number of `<image>` than it has images. escaped: captions with a
    marker escaped. captions: rows of the dataset.
    """

    files: tuple[WrittenFile, ...]
    manifest: str
    records: int
    joined: int
    unmatched: int
    unreadable: int
    unbalanced: int
    escaped: int
    captions: int


def join_captions(
    dataset: Dataset,
    records: str,
    out: str,
    *,
    source: str | None = None,
    unmatched: Unmatched = "drop",
    division: Division | None = None,
    partial: bool = False,
    storage: StorageExecution | None = None,
    scratch: str | None = None,
    threads: int = 8,
    progress: Progress = lambda _done, _total: None,
    joining: Progress = lambda _done, _total: None,
) -> JoinReport:
    """Write the records of the file `records` with our captions to `out`, in their order and form (array or lines).

    Records are found by the key planning gave them: the source's name, the image and, for images that come several
    times, which time it is; a repeat without a caption of its own takes that of the first. `source` names the source in
    the recipe, and may be left out where there is one only. Markers in captions are escaped as for trainers. Memory is
    flat: captions lie in an index on disk (`scratch`). `joining` is told records done and 0.

    Raises `BadInputError` when no record finds a caption, the file cannot be read or the source is not of JSON records;
    otherwise as `export_jsonl`. Nothing is published then.
    """
    address = file_address(out)
    recipe = _source(dataset, source, records)
    reading = Reading(dataset, division=division or Division(), partial=partial, threads=threads)
    if len(reading.subsets) > 1 or reading.subsets[0].name:
        raise BadInputError("--join takes all captions; leave --sample and --validation out")
    files = Files(storage or StorageExecution())
    tally: Counter[str] = Counter()
    with closing(files), Outputs(address.folder, f"{address.name}.manifest.json", storage, scratch) as outputs:
        outputs.temporary.mkdir(parents=True, exist_ok=True)
        with CaptionIndex(outputs.temporary / "captions.sqlite") as index:
            captions = index.fill(_captions(reading, tally, progress))
            lookup = _Lookup(index, recipe.name)
            writer = LineWriter(outputs, [address.name], 0, _layout_of(files, records))
            # The source's own reader says which image a record means; it reads the file a second time, in step.
            means = open_source(recipe, storage or StorageExecution()).records()
            for raw, record in zip(json_rows(files, records), means, strict=True):
                tally["records"] += 1
                line = _joined(raw, record, lookup, field=recipe.caption_field, unmatched=unmatched, tally=tally)
                if line is not None:
                    writer.write(line)
                if tally["records"] % 1000 == 0:
                    joining(tally["records"], 0)
            writer.close()
        joining(tally["records"], 0)
        if tally["records"] and not tally["joined"]:
            raise BadInputError(
                f"{records}: none of its {tally['records']:,} records has a caption in {dataset.store.uri}, source "
                f"{recipe.name!r}; is it the annotation file that dataset was planned from?"
            )
        names = ("records", "joined", "unmatched", "unreadable", "unbalanced", "escaped")
        counts = {name: tally[name] for name in names}
        facts = {"format": "join", "joined_to": Path(records).name, "source": recipe.name, "keep": unmatched, **counts}
        outputs.publish(manifest_of(reading, outputs.written, tally["joined"], facts))
    return JoinReport(outputs.written, outputs.manifest_name, **counts, captions=captions)


class _Lookup:
    """Finds the caption of a record by the key planning gave it."""

    def __init__(self, index: CaptionIndex, source: str) -> None:
        self._index = index
        self._source = source
        self._times: Counter[str] = Counter()

    def of(self, image: str) -> str | None:
        """The caption of the next record with this image."""
        key = record_key(self._source, image)
        first = self._index.of(key)
        repeats = self._index.repeats(key)
        if not repeats:
            return first
        # Counted only for images that have several captions, of which there are few.
        time = self._times[key]
        self._times[key] += 1
        return repeats.get(time, first or next(iter(repeats.values())))


def record_key(source: str, image: str) -> str:
    """The key that planning gives the first record of an image (`caprl_core.shards.plan`)."""
    name = f"{source}\0{image}".encode("utf-8", "surrogatepass")
    return f"{source}-{hashlib.blake2b(name, digest_size=12).hexdigest()}"


def _joined(
    raw: JsonRow,
    record: SourceRecord,
    lookup: _Lookup,
    *,
    field: str | None,
    unmatched: Unmatched,
    tally: Counter[str],
) -> bytes | None:
    if raw.problem is not None:
        tally["unreadable"] += 1
        return None
    caption = None if record.problem is not None else lookup.of(record.image)
    if caption is None:
        tally["unmatched"] += 1
        return encode_line(raw.value) if unmatched == "keep" else None
    changed = with_caption(raw.value, caption, field)
    if changed is None:
        tally["unreadable"] += 1
        return None
    tally["joined"] += 1
    tally["unbalanced"] += not is_balanced(changed)
    return encode_line(changed)


def _captions(reading: Reading, tally: Counter[str], progress: Progress) -> Iterator[tuple[str, str]]:
    """Key and escaped caption of every row."""
    for item in reading.rows(progress):
        caption = escape(item.row["caption"])
        tally["escaped"] += caption != item.row["caption"]
        yield item.row["key"], caption


def _source(dataset: Dataset, name: str | None, records: str) -> SourceRecipe:
    """The source as the recipe has it, reading `records` whole."""
    known = {source["name"]: source for source in dataset.record.identity["sources"]}
    if name is None and len(known) == 1:
        name = next(iter(known))
    if name is None or name not in known:
        raise BadInputError(
            f"--join-source: say which source {records} belongs to; this dataset has {', '.join(known)}"
        )
    if known[name]["kind"] not in _JSON_KINDS:
        raise BadInputError(
            f"--join: source {name!r} is of kind {known[name]['kind']}; its records are no objects of a JSON file"
        )
    return SourceRecipe.model_validate({**known[name], "uri": records, "limit": None})


def _layout_of(files: Files, uri: str) -> Layout:
    with decompressed(files, uri) as stream:
        return "json" if first_character(stream)[0] == b"[" else "jsonl"
