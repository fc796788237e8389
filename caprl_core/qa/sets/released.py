"""A curated set as parquet in the schema of the released CapRL-QA-75K, images included, with our provenance added."""

import hashlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from itertools import groupby, islice
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from caprl_core.data.containers import split_reference
from caprl_core.errors import BadInputError
from caprl_core.qa.filter import Split
from caprl_core.qa.rows import WRITER
from caprl_core.qa.sets.curated_columns import ANSWERER
from caprl_core.qa.sets.curated_files import FOLDER, CuratedFile, check_file, choices, questions_name, read_manifest
from caprl_core.qa.sets.kept_images import KeptImages
from caprl_core.recipe.models import StorageExecution
from caprl_core.shards.scratch import scratch_folder
from caprl_core.storage.store import Store

PROMPT = "<image> Please describe this image in detail."
DATA_SOURCE = "image_caption_rl"
"""Prompt and `data_source` of every row of the released set (fact sheet 1.3)."""
GROUP_ROWS, GROUP_BYTES = 100, 256 * 2**20
"""A row group ends at either: the first is what viewers of image datasets page by, the second bounds the memory."""
_HUB_SPLIT: Mapping[Split, str] = {"train": "train", "held_out": "test"}
"""`datasets` tells splits by these words at the beginning of a file name."""

QUESTION = pa.struct(
    [
        pa.field("question", pa.string()),
        pa.field("choices", pa.list_(pa.string())),  # "A) …"
        pa.field("answer", pa.string()),  # a letter
    ]
)
RELEASED = pa.schema(
    [
        pa.field("id", pa.string()),  # 32 hex digits
        pa.field("image", pa.struct([pa.field("bytes", pa.binary()), pa.field("path", pa.string())])),
        pa.field("prompt", pa.list_(pa.struct([pa.field("role", pa.string()), pa.field("content", pa.string())]))),
        pa.field("data_source", pa.string()),
        pa.field("reward_model", pa.struct([pa.field("ground_truth", pa.list_(QUESTION))])),
    ]
)
"""The columns of the released set."""

EVIDENCE = pa.struct(
    [
        pa.field("id", pa.string()),
        *(pa.field(f"{branch}_accuracy", pa.float64()) for branch in ("visual", "text")),
        *(pa.field(f"{branch}_votes", pa.int32()) for branch in ("visual", "text")),
    ]
)
PROVENANCE = pa.schema(
    [
        pa.field("key", pa.string()),
        pa.field("image_sha256", pa.string()),
        pa.field("source", pa.string()),
        pa.field("record_id", pa.string()),
        pa.field("writer", WRITER),
        pa.field("answerer", ANSWERER),
        pa.field("evidence", pa.list_(EVIDENCE)),  # one entry a question of `reward_model.ground_truth`, in its order
    ]
)
"""The columns we add."""


class ReleasedReport(NamedTuple):
    """The files written, and the images and questions in them."""

    files: tuple[CuratedFile, ...]
    images: int
    questions: int


def write_released(
    curated: Store,
    curated_id: str,
    images: Store,
    out: Store,
    *,
    split: Split = "train",
    prompt: str = PROMPT,
    rows_per_file: int = 2000,
    storage: StorageExecution | None = None,
    scratch: str | None = None,
    threads: int = 8,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> ReleasedReport:
    """Write `train-00000-of-0000N.parquet` (or `test-…` for the held-out side) to `out`, a row an image.

    `images` is the store of the dataset whose tars carry the images: the generated one, or the extracted one of an
    imported set. `storage` says how it is reached; `threads` read images; `progress` is told images done and in all.

    Raises `BadInputError` when there is no such set or `out` holds files of that split of another layout, `StoreError`
    when a file or an image is not the one that was curated.
    """
    if rows_per_file < 1 or threads < 1:
        raise BadInputError("rows_per_file and threads must be 1 or more")
    files = {item.name: item for item in read_manifest(curated, curated_id) or ()}
    if not files:
        raise BadInputError(f"{curated.uri}/{FOLDER}/{curated_id}: no curated set here; run `caprl qa filter` first")
    total = files[questions_name(split, "jsonl")].rows
    item = files[questions_name(split, "parquet")]
    count = max(1, -(-total // rows_per_file))
    names = [f"{_HUB_SPLIT[split]}-{number:05d}-of-{count:05d}.parquet" for number in range(count)]
    _refuse_others(out, _HUB_SPLIT[split], names)
    written = []
    with scratch_folder(scratch) as folder, closing(KeptImages(images, storage or StorageExecution())) as kept:
        with (folder / item.name).open("wb") as copy:
            check_file(curated, f"{FOLDER}/{curated_id}/{item.name}", item, copy)
        rows = _with_images(_images_of(folder / item.name), kept, threads)
        done = 0
        for name in names:
            path = folder / name
            size = 0
            with pq.ParquetWriter(path, released_schema(), compression="zstd", use_dictionary=False) as writer:
                for group in _groups(islice(rows, rows_per_file)):
                    writer.write_batch(_batch(group, prompt))
                    size += len(group)
                    progress(done := done + len(group), total)
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            written.append(CuratedFile(name, size, path.stat().st_size, digest))
            out.put_file(name, path)
            path.unlink()
    return ReleasedReport(tuple(written), done, item.rows)


def released_schema() -> pa.Schema:
    """Both column sets, with what makes `datasets` decode `image`."""
    schema = pa.schema([*RELEASED, *PROVENANCE])
    features = {field.name: _feature(field.type) for field in schema} | {"image": {"_type": "Image"}}
    return schema.with_metadata({"huggingface": orjson.dumps({"info": {"features": features}})})


def _feature(kind: pa.DataType) -> Any:
    """The description `datasets` gives an arrow type; lists as releases before and after 4.0 read them."""
    if pa.types.is_struct(kind):
        return {field.name: _feature(field.type) for field in kind}
    if pa.types.is_list(kind):
        return [_feature(kind.value_type)]
    return {"dtype": {"double": "float64"}.get(str(kind), str(kind)), "_type": "Value"}


def _refuse_others(out: Store, split: str, names: Sequence[str]) -> None:
    """Files of another layout would be loaded together with ours."""
    for item in out.list(""):
        if item.key.startswith(f"{split}-") and item.key.endswith(".parquet") and item.key not in names:
            raise BadInputError(f"{out.uri}/{item.key} is of another release; write into an empty folder")


class _Image(NamedTuple):
    """An image and its kept questions."""

    rows: list[dict[str, Any]]
    data: bytes


def _images_of(path: Path) -> Iterator[list[dict[str, Any]]]:
    """The kept questions, those of an image together."""
    questions = (row for batch in pq.ParquetFile(path).iter_batches(1000) for row in batch.to_pylist())
    for _, rows in groupby(questions, key=lambda row: row["key"]):
        yield list(rows)


def _with_images(images: Iterator[list[dict[str, Any]]], kept: KeptImages, threads: int) -> Iterator[_Image]:
    """Images read ahead by threads, in order."""

    def read(rows: list[dict[str, Any]]) -> _Image:
        return _Image(rows, kept.read(rows[0]["image"], rows[0]["image_sha256"]))

    waiting: deque[Future[_Image]] = deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="caprl-images")
    try:
        while True:
            waiting.extend(pool.submit(read, rows) for rows in islice(images, 2 * threads - len(waiting)))
            if not waiting:
                return
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _groups(images: Iterator[_Image]) -> Iterator[list[_Image]]:
    group: list[_Image] = []
    size = 0
    for image in images:
        group.append(image)
        size += len(image.data)
        if len(group) == GROUP_ROWS or size >= GROUP_BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group


def _batch(group: Sequence[_Image], prompt: str) -> pa.RecordBatch:
    schema = released_schema()
    rows = [_row(image, prompt) for image in group]
    return pa.record_batch([pa.array([row[field.name] for row in rows], field.type) for field in schema], schema=schema)


def _row(image: _Image, prompt: str) -> dict[str, Any]:
    first = image.rows[0]
    identity = f"{first['key']}\0{first['image_sha256']}".encode()
    return {
        "id": hashlib.blake2b(identity, digest_size=16).hexdigest(),
        "image": {"bytes": image.data, "path": split_reference(first["image"])[1]},
        "prompt": [{"role": "user", "content": prompt}],
        "data_source": DATA_SOURCE,
        "reward_model": {
            "ground_truth": [
                {"question": row["stem"], "choices": choices(row["options"]), "answer": row["answer"]}
                for row in image.rows
            ]
        },
        **{name: first[name] for name in ("key", "image_sha256", "source", "record_id", "writer", "answerer")},
        "evidence": [{field.name: row[field.name] for field in EVIDENCE} for row in image.rows],
    }
