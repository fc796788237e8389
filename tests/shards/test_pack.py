"""Packing: the same rows give the same bytes, every common reader gives the rows and images back."""

import hashlib
import json
import tarfile
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import webdataset
from hypothesis import given
from hypothesis import strategies as st

from caprl_core.captioning.stage import CaptionStage
from caprl_core.data.row import Result
from caprl_core.shards.pack import DeterministicTar, HashingWriter, pack
from support.drawn_dataset import recipe_for


@pytest.fixture
def stage(tmp_path: Path) -> CaptionStage:
    return CaptionStage(recipe_for(tmp_path, str(tmp_path)))


def result(number: int, caption: str | None, image: bytes = b"bytes") -> Result:
    key = f"src-{number:016x}"
    ledger: dict[str, Any] = {
        "key": key, "index": number, "source": "src", "image": f"{number}.jpg",
        "status": "rejected" if caption is None else "row", "reason": "empty" if caption is None else None,
        "detail": None, "attempt": 1, "earlier": [], "finish_reason": "stop", "prompt_tokens": 1,
        "completion_tokens": 1, "latency_s": 0.5, "image_sha256": "0" * 64, "image_size": len(image),
    }  # fmt: skip
    row = {"key": key, "image_file": f"{key}.jpg", "caption": caption} if caption is not None else None
    return Result(key, number, ledger, row)


def test_the_same_results_give_the_same_bytes(stage: CaptionStage, tmp_path: Path) -> None:
    results = [result(0, "a café"), result(1, None), result(2, "line\nbreak")]
    packed = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        packed.append(pack(results, lambda r: r.key.encode(), stage, tmp_path / name))
    for first, second in zip(*packed, strict=True):
        assert first.path.read_bytes() == second.path.read_bytes()
        assert (first.size, first.sha256) == (second.size, second.sha256)
        assert hashlib.sha256(first.path.read_bytes()).hexdigest() == first.sha256
        assert first.path.stat().st_size == first.size


def test_every_reader_gives_rows_and_images_back(stage: CaptionStage, tmp_path: Path) -> None:
    images = {f"src-{n:016x}": bytes([n]) * (n * 300) for n in range(5)}
    results = [result(n, f"caption {n}") for n in range(5)]
    tar, jsonl, ledger = pack(results, lambda r: images[r.key], stage, tmp_path)
    with tarfile.open(tar.path) as archive:
        assert all((m.mtime, m.uid, m.gid, m.uname) == (0, 0, 0, "") for m in archive)
        read = {m.name: archive.extractfile(m).read() for m in archive.getmembers()}  # type: ignore[union-attr]
    samples = list(webdataset.WebDataset(str(tar.path), shardshuffle=False))
    rows = [json.loads(line) for line in jsonl.path.read_text().splitlines()]
    assert [sample["__key__"] for sample in samples] == [r.key for r in results] == [row["key"] for row in rows]
    for sample, row in zip(samples, rows, strict=True):
        assert sample["jpg"] == images[row["key"]] == read[row["image_file"]]
        assert sample["txt"].decode() == row["caption"]
        assert json.loads(sample["json"]) == row
    assert pq.read_table(ledger.path).num_rows == 5


def test_rejected_samples_are_in_the_ledger_only(stage: CaptionStage, tmp_path: Path) -> None:
    tar, jsonl, ledger = pack([result(0, None), result(1, None)], lambda r: b"", stage, tmp_path)
    with tarfile.open(tar.path) as archive:
        assert archive.getnames() == []
    assert jsonl.size == 0
    assert pq.read_table(ledger.path).column("reason").to_pylist() == ["empty", "empty"]


@given(st.lists(st.binary(max_size=3000), max_size=12))
def test_a_tar_of_any_members_is_read_by_the_standard_library(
    tmp_path_factory: pytest.TempPathFactory, members: list[bytes]
) -> None:
    path = tmp_path_factory.mktemp("tar") / "x.tar"
    with path.open("wb") as file:
        tar = DeterministicTar(HashingWriter(file))
        for number, data in enumerate(members):
            tar.add(f"{number:05d}.bin", data)
        tar.close()
    assert path.stat().st_size % tarfile.RECORDSIZE == 0
    with tarfile.open(path) as archive:
        assert [archive.extractfile(m).read() for m in archive.getmembers()] == members  # type: ignore[union-attr]


def test_names_beyond_the_format_are_refused_not_cut(tmp_path: Path) -> None:
    with (tmp_path / "x").open("wb") as file, pytest.raises(ValueError, match="name is too long"):
        DeterministicTar(HashingWriter(file)).add("a" * 300, b"")
