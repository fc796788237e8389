"""`datasets.load_dataset(folder)` reads the Hugging Face export with its pictures, and the card tells of it."""

import hashlib
from pathlib import Path
from typing import Any

import orjson
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image

from caprl_core.errors import BadInputError
from caprl_core.export.huggingface import export_huggingface
from caprl_core.export.subsets import Division
from caprl_core.shards.dataset import Dataset
from caprl_core.storage.commit import read_commit
from caprl_core.storage.layout import Unit
from support.hostile_captions import HOSTILE, captioned
from support.made_datasets import made

datasets = pytest.importorskip("datasets")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("hostile")
    return captioned(folder, str(folder / "dataset"), [*HOSTILE] * 6)


@pytest.fixture(autouse=True)
def private_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)


def committed(dataset: Dataset) -> list[dict[str, Any]]:
    keys = sorted(item.key for item in dataset.store.list("shards") if item.key.endswith(".jsonl"))
    return [orjson.loads(line) for key in keys for line in dataset.store.get(key).splitlines()]


def assert_same(loaded: Any, rows: list[dict[str, Any]]) -> None:
    assert loaded.num_rows == len(rows)
    for sample, row in zip(loaded.cast_column("image", datasets.Image(decode=False)), rows, strict=True):
        assert hashlib.sha256(sample["image"]["bytes"]).hexdigest() == row["image_sha256"]
        assert sample["caption"] == row["caption"] and sample["source_image"] == row["image"]
        assert {name: sample[name] for name in sample if name in row and name != "image"} == {
            name: row[name] for name in sample if name in row and name != "image"
        }


def test_the_folder_alone_is_enough_and_hostile_captions_survive(dataset: Dataset, tmp_path: Path) -> None:
    report = export_huggingface(dataset, str(tmp_path / "out"))
    loaded = datasets.load_dataset(str(tmp_path / "out"))
    assert list(loaded) == ["train"] and report.rows == 48
    assert isinstance(loaded["train"][0]["image"], Image.Image) and loaded["train"][0]["image"].size == (56, 56)
    assert_same(loaded["train"], committed(dataset))
    streamed = datasets.load_dataset(str(tmp_path / "out"), split="train", streaming=True)
    assert sum(1 for _ in streamed) == 48


def test_the_corpus_loads_with_every_picture_decoded(tmp_path: Path, corpus: Path) -> None:
    dataset = captioned(tmp_path, str(tmp_path / "dataset"), HOSTILE, images=corpus)
    export_huggingface(dataset, str(tmp_path / "out"), examples=3)
    loaded = datasets.load_dataset(str(tmp_path / "out"), split="train")
    rows = committed(dataset)
    assert len(rows) > 50 and loaded.num_rows == len(rows)
    for sample, row in zip(loaded, rows, strict=True):
        # `datasets` turns pictures upright as their EXIF says; the row has the size before.
        assert sorted(sample["image"].size) == sorted((row["image_width"], row["image_height"]))


def test_splits_and_samples_are_splits(dataset: Dataset, tmp_path: Path) -> None:
    division = Division(samples=(10, 20), validation=0.3)
    report = export_huggingface(dataset, str(tmp_path / "out"), division=division, files=3)
    loaded = datasets.load_dataset(str(tmp_path / "out"))
    assert {name: split.num_rows for name, split in loaded.items()} == {
        "sample_10": 10, "sample_20": 20, "validation": report.rows - 20,
    }  # fmt: skip
    assert set(loaded["sample_10"]["key"]) < set(loaded["sample_20"]["key"])
    assert len(list((tmp_path / "out" / "data").iterdir())) == 9


def test_files_of_another_export_are_not_mixed_in(dataset: Dataset, tmp_path: Path) -> None:
    export_huggingface(dataset, str(tmp_path / "out"), files=2)
    export_huggingface(dataset, str(tmp_path / "out"), files=2)
    with pytest.raises(BadInputError, match=r"train-0000\d-of-00002.parquet is of another export"):
        export_huggingface(dataset, str(tmp_path / "out"), files=3)


def test_on_s3_it_is_the_local_one(tmp_path: Path, bucket: str, s3_client: Any) -> None:
    remote = made(tmp_path, f"s3://{bucket}/drawn")
    export_huggingface(remote, str(tmp_path / "out"))
    export_huggingface(remote, f"s3://{bucket}/release")
    local = {p.relative_to(tmp_path / "out").as_posix(): p for p in (tmp_path / "out").rglob("*") if p.is_file()}
    keys = [item["Key"] for item in s3_client.list_objects_v2(Bucket=bucket, Prefix="release/")["Contents"]]
    assert {key.removeprefix("release/") for key in keys} == set(local)
    for name, path in local.items():
        assert s3_client.get_object(Bucket=bucket, Key=f"release/{name}")["Body"].read() == path.read_bytes()
    assert_same(datasets.load_dataset(str(tmp_path / "out"), split="train"), committed(remote))


def test_the_card_tells_counts_reasons_lengths_recipe_and_stated_licences(tmp_path: Path) -> None:
    dataset = made(tmp_path, str(tmp_path / "dataset"))
    export_huggingface(
        dataset, str(tmp_path / "out"), licence="cc-by-nc-4.0", source_licences={"folder": "CC BY 4.0"}, examples=2
    )
    text = (tmp_path / "out" / "README.md").read_text()
    front = yaml.safe_load(text.split("---\n")[1])
    assert front["license"] == "cc-by-nc-4.0" and front["size_categories"] == ["n<1K"]
    lengths = [len(row["caption"]) for row in committed(dataset)]
    for wanted in (
        "Of 51 planned samples 1 were rejected and 0 are pending; 50 rows",
        f"| `{next(iter(read_commit(dataset.store, Unit(0, 0)).reasons))}` | 1 |",
        "| `folder` | folder | `CC BY 4.0` |",
        "`test/echo`, revision not pinned",
        "`plain`: `Please describe this image in detail.`",
        f"| characters | {sum(lengths) / 50:,.1f} | {min(lengths)} |",
        dataset.record.fingerprint,
        "shard_samples: 20",
        "](examples/2.jpg)",
    ):
        assert wanted in text, wanted
    for number in (1, 2):
        with Image.open(tmp_path / "out" / "examples" / f"{number}.jpg") as picture:
            assert picture.format == "JPEG"
    assert not (tmp_path / "out" / "examples" / "3.jpg").exists()


def test_no_licence_is_invented(dataset: Dataset, tmp_path: Path) -> None:
    export_huggingface(dataset, str(tmp_path / "out"), examples=0)
    text = (tmp_path / "out" / "README.md").read_text()
    assert "license" not in yaml.safe_load(text.split("---\n")[1]) and "| `folder` | folder | not stated |" in text
    with pytest.raises(BadInputError, match="no source of that name; this dataset has folder"):
        export_huggingface(dataset, str(tmp_path / "other"), source_licences={"coco": "CC BY 4.0"})


def test_hostile_captions_stay_inside_their_boxes_on_the_card(dataset: Dataset, tmp_path: Path) -> None:
    export_huggingface(dataset, str(tmp_path / "out"), examples=48)
    text = (tmp_path / "out" / "README.md").read_text()
    assert not set("\0\x1b\x07\u202e\u2028") & set(text)
    outside, fence = [], ""
    for line in text.split("\n"):
        if fence:
            fence = "" if line == fence else fence
        elif line.startswith("```"):
            fence = line.removesuffix("text").removesuffix("python")
        else:
            outside.append(line)
    assert not fence and "<script>" not in "\n".join(outside) and "<image>" not in "\n".join(outside)


def test_row_groups_are_small_and_pictures_are_not_packed_again(dataset: Dataset, tmp_path: Path) -> None:
    export_huggingface(dataset, str(tmp_path / "out"))
    [path] = (tmp_path / "out" / "data").iterdir()
    meta = pq.ParquetFile(path).metadata
    columns = {meta.row_group(0).column(n).path_in_schema: meta.row_group(0).column(n) for n in range(meta.num_columns)}
    assert columns["image.bytes"].compression == "UNCOMPRESSED" and columns["caption"].compression == "ZSTD"
    assert meta.row_group(0).num_rows <= 100
