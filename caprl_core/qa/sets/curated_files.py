"""The files of a curated set: written locally, put under `curated/<id>/`, and found again."""

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import IO, Any, NamedTuple, Self

import orjson

from caprl_core.errors import ObjectExistsError, ObjectMissingError, StoreError
from caprl_core.qa.filter import SPLITS, Split, Verdict, arranged
from caprl_core.qa.question import LETTERS
from caprl_core.qa.sets.curated_columns import (
    KEPT,
    VERDICT,
    KeptQuestion,
    RowGroups,
    kept_batch,
    refused_batch,
    verdict_batch,
)
from caprl_core.qa.sets.stats import CurationStats
from caprl_core.storage.store import Store

FOLDER = "curated"
MANIFEST = "manifest.json"
STATS = "stats.json"
VERDICTS = "verdicts.parquet"
PROMPT = "Please describe this image in detail."
"""What a policy trained on the set is asked about each image."""
KEPT_ROWS, VERDICT_ROWS = 20_000, 65_536
"""Rows of a row group: some megabytes, as texts weigh more than counts."""


class CuratedFile(NamedTuple):
    """A file of the set: its name below the set's prefix, rows (or lines), bytes and hex digest."""

    name: str
    rows: int
    size: int
    sha256: str


class FoundSet(NamedTuple):
    """A whole, verified set; `stats` are the bytes of its `stats.json`."""

    prefix: str
    files: tuple[CuratedFile, ...]
    stats: bytes


def questions_name(split: Split, suffix: str) -> str:
    """`questions-train.parquet`, …; `suffix` is `parquet` (a row a question) or `jsonl` (a line an image)."""
    return f"questions-{split}.{suffix}"


def choices(options: Sequence[str]) -> list[str]:
    """As the released sets write options: `A) text`, `B) text`, …"""
    return [f"{letter}) {option}" for letter, option in zip(LETTERS, options, strict=False)]


class CuratedWriter:
    """Writes a set's files into a local folder. Use as a context manager, then call `finished`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._cleanup = ExitStack()
        self._tables: dict[str, RowGroups] = {}
        self._lines: dict[Split, IO[bytes]] = {}
        self._images = dict.fromkeys(SPLITS, 0)

    def __enter__(self) -> Self:
        """Open the files."""
        names = {VERDICTS: (VERDICT, VERDICT_ROWS)}
        names |= {questions_name(split, "parquet"): (KEPT, KEPT_ROWS) for split in SPLITS}
        for name, (schema, rows) in names.items():
            self._tables[name] = self._cleanup.enter_context(RowGroups(self._folder / name, schema, rows))
        for split in SPLITS:
            path = self._folder / questions_name(split, "jsonl")
            self._lines[split] = self._cleanup.enter_context(path.open("wb", buffering=1 << 20))
        return self

    def write(self, judged: Sequence[tuple[Mapping[str, Any], Sequence[Verdict]]]) -> None:
        """A shard's rows with the verdicts on their questions, in order."""
        keys = [row["key"] for row, verdicts in judged for _ in verdicts]
        if keys:
            self._tables[VERDICTS].write(verdict_batch(keys, [verdict for _, some in judged for verdict in some]))
        kept: dict[Split, list[KeptQuestion]] = {split: [] for split in SPLITS}
        for row, verdicts in judged:
            # All questions of an image are on one side.
            split = next((verdict.split for verdict in verdicts if verdict.split is not None), None)
            if split is None:
                continue
            some = [
                KeptQuestion(row, question, verdict)
                for question, verdict in zip(row["questions"], verdicts, strict=True)
                if verdict.kept
            ]
            kept[split] += some
            self._lines[split].write(orjson.dumps(_line(row, some), option=orjson.OPT_APPEND_NEWLINE))
            self._images[split] += 1
        for split, questions in kept.items():
            if questions:
                self._tables[questions_name(split, "parquet")].write(kept_batch(questions))

    def write_refused(self, lines: Sequence[tuple[str, str | None, int | None, str]]) -> None:
        """Verdicts on what was never answered: key, id or None, place in the block or None, reason."""
        if lines:
            self._tables[VERDICTS].write(refused_batch(*zip(*lines, strict=True)))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the files."""
        self._cleanup.__exit__(kind, error, trace)

    def finished(self, stats: CurationStats) -> tuple[CuratedFile, ...]:
        """The closed files with their digests, the stats among them."""
        path = self._folder / STATS
        path.write_bytes(orjson.dumps(stats.as_json(), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
        rows = {name: table.rows for name, table in self._tables.items()} | {STATS: 1}
        rows |= {questions_name(split, "jsonl"): count for split, count in self._images.items()}
        return tuple(_file(self._folder / name, rows[name]) for name in sorted(rows))


def publish_set(
    out: Store, set_id: str, folder: Path, files: Sequence[CuratedFile], description: Mapping[str, Any]
) -> str:
    """Put the files, then create the manifest; returns the set's prefix.

    Racing runs put the same bytes. Raises `StoreError` when another run made a different set under the same id.
    """
    prefix = f"{FOLDER}/{set_id}"
    for item in files:
        out.put_file(f"{prefix}/{item.name}", folder / item.name)
    manifest = {"id": set_id, **description, "files": [item._asdict() for item in files]}
    data = orjson.dumps(manifest, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    try:
        out.create(f"{prefix}/{MANIFEST}", data)
    except ObjectExistsError as error:
        if out.get(f"{prefix}/{MANIFEST}") != data:
            raise StoreError(
                f"{out.uri}/{prefix}: another run wrote this set with other bytes at the same time, perhaps with "
                "another version of pyarrow; delete the folder and run again"
            ) from error
    return prefix


def find_set(out: Store, set_id: str) -> FoundSet | None:
    """A set that is there, every file checked against the manifest; None when there is no manifest.

    Raises `StoreError` when a file is not the one the manifest names.
    """
    prefix = f"{FOLDER}/{set_id}"
    files = read_manifest(out, set_id)
    if files is None:
        return None
    for item in files:
        check_file(out, f"{prefix}/{item.name}", item)
    return FoundSet(prefix, files, out.get(f"{prefix}/{STATS}"))


def read_manifest(out: Store, set_id: str) -> tuple[CuratedFile, ...] | None:
    """The files a set's manifest names; None when there is no manifest. Raises `StoreError` for a damaged one."""
    key = f"{FOLDER}/{set_id}/{MANIFEST}"
    try:
        return tuple(CuratedFile(**item) for item in orjson.loads(out.get(key))["files"])
    except ObjectMissingError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{out.uri}/{key} is not a manifest of a curated set: {error}") from error


def check_file(out: Store, key: str, item: CuratedFile, copy: IO[bytes] | None = None) -> None:
    """Read an object through, into `copy` if given. Raises `StoreError` unless its bytes are the manifest's."""
    digest = hashlib.sha256()
    size = 0
    for chunk in out.stream(key):
        digest.update(chunk)
        size += len(chunk)
        if copy is not None:
            copy.write(chunk)
    if (size, digest.hexdigest()) != (item.size, item.sha256):
        raise StoreError(
            f"{out.uri}/{key} was changed after it was written; delete {key.rpartition('/')[0]} and filter again"
        )


def _line(row: Mapping[str, Any], kept: Sequence[KeptQuestion]) -> dict[str, Any]:
    return {
        "key": row["key"],
        "image": row["image"],
        "image_sha256": row["image_sha256"],
        "prompt": PROMPT,
        "questions": [
            {
                "question": question["stem"],
                "choices": choices(arranged(question, verdict.place)),
                "answer": LETTERS[verdict.place],
            }
            for _, question, verdict in kept
        ],
    }


def _file(path: Path, rows: int) -> CuratedFile:
    with path.open("rb") as file:
        return CuratedFile(path.name, rows, path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest())
