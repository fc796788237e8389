"""A dataset as a Hugging Face repository: parquet files with the pictures in them, and a card that tells of them.

Parquet and not tars, because `load_dataset(folder)` reads it without being told any columns, and the hub shows it.
"""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import orjson
import pyarrow as pa

from caprl_core.data.row import COMMON_FIELDS
from caprl_core.errors import BadInputError, StoreError
from caprl_core.export.caption_lengths import CaptionLengths
from caprl_core.export.card_facts import refuse_unknown
from caprl_core.export.draws import draw
from caprl_core.export.image_files import image_name
from caprl_core.export.manifest import ExportReport, manifest_of
from caprl_core.export.outputs import Outputs, folder_address
from caprl_core.export.parquet_files import Group, ParquetFiles
from caprl_core.export.parts import Parts
from caprl_core.export.reading import ExportRow, Progress, Reading
from caprl_core.export.release_card import Pictured, release_card
from caprl_core.export.subsets import Division, Subset
from caprl_core.export.tar_members import read_members
from caprl_core.export.tars_at_hand import tars_at_hand
from caprl_core.recipe.models import StorageExecution
from caprl_core.shards.dataset import Dataset
from caprl_core.storage.store import Store

GROUP = Group(rows=100, size=64 * 2**20)
"""The rows are what viewers of image datasets page by, the bytes of pictures bound the memory."""
FILE_BYTES = 500_000_000
"""Of a parquet file, about: what the hub's own uploader makes of image datasets."""

IMAGE = pa.struct([pa.field("bytes", pa.binary()), pa.field("path", pa.string())])
"""What `datasets` stores pictures as."""
_TAKEN = (
    *("key", "source", "record_id", "original_caption", "image_sha256", "image_width", "image_height"),
    *("model", "model_revision", "prompt_id", "seed", "attempt", "finish_reason", "completion_tokens"),
)
SCHEMA = pa.schema(
    [
        pa.field("image", IMAGE),
        pa.field("caption", pa.string()),
        pa.field("source_image", pa.string()),  # the row's `image`: what the source calls the picture
        *(COMMON_FIELDS.field(name).with_nullable(True) for name in _TAKEN),
    ]
)
_OTHERS = [name for name in SCHEMA.names if name != "image"]
PACKING = {
    # Pictures are compressed already, and no two are equal: neither packing nor a dictionary helps them.
    "compression": {**dict.fromkeys(_OTHERS, "zstd"), "image.bytes": "none", "image.path": "none"},
    "use_dictionary": _OTHERS,
}
"""How parquet's writer packs the columns."""


def export_huggingface(
    dataset: Dataset,
    out: str,
    *,
    licence: str | None = None,
    source_licences: Mapping[str, str] | None = None,
    examples: int = 6,
    files: int | None = None,
    division: Division | None = None,
    partial: bool = False,
    storage: StorageExecution | None = None,
    scratch: str | None = None,
    threads: int = 8,
    progress: Progress = lambda _done, _total: None,
) -> ExportReport:
    """Write `data/<split>-00000-of-0000N.parquet` for each subset, `README.md` and example pictures into `out`, a
    folder or an `s3://` prefix, and a manifest.

    `licence` is the hub's identifier for the whole, `source_licences` what the user says of each source: what is not
    said is not stated. `files` is the number of files of each subset; None makes files of about `FILE_BYTES`. Captions
    are written as they are: no trainer's marker is escaped. Memory: a row group and a shard's rows.

    Raises `BadInputError` for a dataset without captions or pictures, licences of sources it does not have, or a folder
    with other parquet files in its `data`; otherwise as `export_jsonl`.
    """
    folder = folder_address(out)
    if files is not None and files < 1:
        raise BadInputError("export: files and threads must be 1 or more")
    reading = Reading(dataset, division=division or Division(), partial=partial, threads=threads)
    columns = reading.columns
    if missing := [name for name in ("caption", "image_file") if name not in columns]:
        raise BadInputError(f"{dataset.store.uri}: this format needs captions with their images, not {missing[0]!r}")
    licences = dict(source_licences or {})
    refuse_unknown(dataset, licences)
    names = {subset.name: _names(subset, reading, files) for subset in reading.subsets}
    _refuse_others(Store(folder, storage), {name for part in names.values() for name in part})
    lengths = CaptionLengths()
    pictured = _Examples(examples, reading.division.seed)
    rows = 0
    with Outputs(folder, "caprl-manifest.json", storage, scratch) as outputs:
        writers = [
            ParquetFiles(outputs, Parts(names[subset.name], subset.rows), _table, group=GROUP, options=PACKING)
            for subset in reading.subsets
        ]
        records = reading.current.records
        tars = tars_at_hand(dataset.store, records, outputs.temporary)
        for record, shard, tar in zip(records, reading.shards(progress), tars, strict=True):
            wanted = {item.row["image_file"]: item for item in shard}
            for item, data in read_members(dataset.store, record, wanted, tar) if wanted else ():
                _check(dataset, item, data)
                for number in item.subsets:
                    writers[number].write(_Picture(item.row, data), len(data))
                pictured.offer(item.row, data)
                lengths.add(item.row)
                rows += 1
        for writer in writers:
            writer.close()
        card, thumbnails = release_card(
            reading,
            rows,
            names=names,
            lengths=lengths,
            licence=licence,
            source_licences=licences,
            examples=pictured.chosen(),
        )
        for name, content in {**thumbnails, "README.md": card.encode()}.items():
            outputs.add(name, content)
        facts = {"format": "huggingface", "licence": licence, "source_licences": licences}
        outputs.publish(manifest_of(reading, outputs.written, rows, facts))
    use = f'datasets.load_dataset("{folder}")'
    return ExportReport(
        outputs.written, outputs.manifest_name, rows, reading.rejected, reading.current.pending, use=use
    )


def hub_schema() -> pa.Schema:
    """`SCHEMA` with what makes `datasets` decode `image`."""
    features: dict[str, Any] = {field.name: {"dtype": str(field.type), "_type": "Value"} for field in SCHEMA}
    features["image"] = {"_type": "Image"}
    return SCHEMA.with_metadata({"huggingface": orjson.dumps({"info": {"features": features}})})


def _names(subset: Subset, reading: Reading, files: int | None) -> list[str]:
    """`data/train-00000-of-00002.parquet` …; a split's name is the subset's with underscores, as `datasets` wants."""
    if files is None:
        size = sum(record.object("tar").size for record in reading.current.records)
        all_rows = sum(record.rows for record in reading.current.records)
        files = max(1, round(subset.rows * size / max(1, all_rows) / FILE_BYTES))
    split = split_name(subset)
    return [f"data/{split}-{number:05d}-of-{files:05d}.parquet" for number in range(files)]


def _refuse_others(out: Store, names: Collection[str]) -> None:
    """Files of another export would be loaded together with ours: the card names them by pattern."""
    for item in out.list("data"):
        if item.key.endswith(".parquet") and item.key not in names:
            raise BadInputError(f"{out.uri}/{item.key} is of another export; write into an empty folder, or remove it")


def split_name(subset: Subset) -> str:
    """`train`, `validation`, `sample_500k`."""
    if subset.name in ("", "train", "validation"):
        return subset.name or "train"
    return f"sample_{subset.name}"


def _check(dataset: Dataset, item: ExportRow, data: bytes) -> None:
    if hashlib.sha256(data).hexdigest() != item.row["member_sha256"]:
        raise StoreError(
            f"{dataset.store.uri}: picture {item.row['image_file']} does not have the sha256 of its row; "
            "run `caprl verify`"
        )


class _Picture(NamedTuple):
    """A row with its picture's bytes."""

    row: dict[str, Any]
    data: bytes


def _table(pictures: Sequence[_Picture]) -> pa.Table:
    schema = hub_schema()
    images = [{"bytes": one.data, "path": image_name(one.row).rpartition("/")[2]} for one in pictures]
    columns = {
        "image": images,
        "caption": [one.row["caption"] for one in pictures],
        "source_image": [one.row["image"] for one in pictures],
        **{name: [one.row.get(name) for one in pictures] for name in _TAKEN},
    }
    return pa.table([pa.array(columns[field.name], field.type) for field in schema], schema=schema)


class _Examples:
    """The pictures whose keys draw the smallest numbers."""

    def __init__(self, count: int, seed: int) -> None:
        self._count = count
        self._seed = seed
        self._held: list[tuple[int, Pictured]] = []

    def offer(self, row: dict[str, Any], data: bytes) -> None:
        drawn = draw("example", self._seed, row["key"])
        if len(self._held) < self._count or (self._held and drawn < self._held[-1][0]):
            self._held.append((drawn, Pictured(row["key"], row["caption"], data)))
            self._held = sorted(self._held, key=lambda item: item[0])[: self._count]

    def chosen(self) -> list[Pictured]:
        return [item for _, item in self._held]
