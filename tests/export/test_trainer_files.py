"""Trainers' formats: examples whose pictures are there, one `<image>` for each, and every caption as it was."""

import hashlib
import json
from pathlib import Path
from typing import Any

import orjson
import pytest

from caprl_core.errors import BadInputError, IncompleteError, StoreError
from caprl_core.export.instructions import Instructions
from caprl_core.export.markers import IMAGE, unescape
from caprl_core.export.subsets import Division
from caprl_core.export.trainer_files import export_for_trainer
from caprl_core.export.trainers.known import TRAINERS
from caprl_core.export.trainers.llamafactory import DATASET_INFO
from caprl_core.export.trainers.trainer import Trainer
from caprl_core.shards.dataset import Dataset
from support.hostile_captions import HOSTILE, captioned
from support.made_datasets import made

ALL = [pytest.param(trainer, id=name) for name, trainer in TRAINERS.items()]
LLAMAFACTORY = TRAINERS["llamafactory"]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("hostile")
    return captioned(folder, str(folder / "dataset"), [*HOSTILE, *HOSTILE, *HOSTILE])


def committed(dataset: Dataset) -> list[dict[str, Any]]:
    keys = sorted(item.key for item in dataset.store.list("shards") if item.key.endswith(".jsonl"))
    return [orjson.loads(line) for key in keys for line in dataset.store.get(key).splitlines()]


def examples_of(path: Path) -> list[dict[str, Any]]:
    """With the standard library's parser, as LLaVA and Qwen's code read it."""
    text = path.read_text(encoding="utf-8")
    return json.loads(text) if path.suffix == ".json" else [json.loads(line) for line in text.split("\n")[:-1]]


def turns_of(example: dict[str, Any]) -> tuple[str, str]:
    if "messages" in example:
        user, assistant = example["messages"]
        assert (user["role"], assistant["role"]) == ("user", "assistant")
        return user["content"], assistant["content"]
    human, gpt = example["conversations"]
    assert (human["from"], gpt["from"]) == ("human", "gpt")
    return human["value"], gpt["value"]


def images_of(example: dict[str, Any]) -> list[str]:
    return example["images"] if "images" in example else [example["image"]]


@pytest.mark.parametrize("trainer", ALL)
@pytest.mark.parametrize("layout", ["json", "jsonl"])
def test_hostile_captions_survive_and_every_picture_is_there(
    dataset: Dataset, tmp_path: Path, trainer: Trainer, layout: Any
) -> None:
    if layout not in trainer.layouts:
        with pytest.raises(BadInputError, match=f"{trainer.name} reads json"):
            export_for_trainer(dataset, str(tmp_path / "out"), trainer, layout=layout)
        return
    report = export_for_trainer(dataset, str(tmp_path / "out"), trainer, layout=layout)
    rows = committed(dataset)
    examples = examples_of(tmp_path / "out" / f"drawn.{layout}")
    assert len(examples) == len(rows) == report.rows == 24 and report.escaped == 6 and report.missing == 0
    assert [len(row["caption"]) for row in rows].count(20_000) == 3
    for row, example in zip(rows, examples, strict=True):
        human, answer = turns_of(example)
        assert unescape(answer) == row["caption"] and example["id"] == row["key"]
        [picture] = images_of(example)
        assert human.count(IMAGE) == 1 and answer.count(IMAGE) == 0
        assert hashlib.sha256((tmp_path / "out" / picture).read_bytes()).hexdigest() == row["image_sha256"]


def test_only_ms_swift_gets_absolute_paths_unless_told_otherwise(dataset: Dataset, tmp_path: Path) -> None:
    for name, trainer in TRAINERS.items():
        report = export_for_trainer(dataset, str(tmp_path / name), trainer)
        [path] = images_of(examples_of(tmp_path / name / report.files[0].name)[0])
        assert Path(path).is_absolute() == (name == "ms-swift")
    export_for_trainer(dataset, str(tmp_path / "x"), TRAINERS["ms-swift"], relative_to=tmp_path / "x")
    assert images_of(examples_of(tmp_path / "x" / "drawn.jsonl")[0])[0].startswith("images/")


def test_pictures_outside_the_folder_are_told_by_absolute_paths(dataset: Dataset, tmp_path: Path) -> None:
    export_for_trainer(dataset, str(tmp_path / "out"), LLAMAFACTORY, images=tmp_path / "pictures")
    [path] = images_of(examples_of(tmp_path / "out" / "drawn.jsonl")[0])
    assert Path(path).is_relative_to(tmp_path / "pictures") and Path(path).is_file()
    assert not (tmp_path / "out" / "images").exists()


def test_two_exports_are_the_same_bytes(dataset: Dataset, tmp_path: Path) -> None:
    texts = Instructions(["Describe it.", "What is this?"], seed=5)
    for threads in (1, 6):
        export_for_trainer(dataset, str(tmp_path / str(threads)), LLAMAFACTORY, instructions=texts, threads=threads)
    one, six = (
        {p.relative_to(r): p.read_bytes() for p in r.rglob("*") if p.is_file()}
        for r in (tmp_path / "1", tmp_path / "6")
    )
    assert one == six


# Pictures the user has


@pytest.fixture
def own(tmp_path: Path) -> Dataset:
    return made(tmp_path, str(tmp_path / "dataset"))


def test_pictures_below_a_root_are_told_by_the_sources_paths(own: Dataset, tmp_path: Path) -> None:
    report = export_for_trainer(own, str(tmp_path / "out"), TRAINERS["llava"], image_root=tmp_path / "pictures")
    assert report.rows == 50 and report.missing == 0
    [path] = images_of(examples_of(tmp_path / "out" / "drawn.json")[0])
    assert path == str(tmp_path / "pictures" / committed(own)[0]["image"])
    export_for_trainer(
        own,
        str(tmp_path / "out"),
        TRAINERS["llava"],
        image_root=tmp_path / "pictures",
        relative_to=tmp_path / "pictures",
    )
    assert images_of(examples_of(tmp_path / "out" / "drawn.json")[0]) == [committed(own)[0]["image"]]


def test_rows_without_their_picture_are_left_out_and_listed(own: Dataset, tmp_path: Path) -> None:
    (tmp_path / "pictures" / "picture-0003.jpg").unlink()
    (tmp_path / "pictures" / "picture-0004.png").unlink()
    report = export_for_trainer(own, str(tmp_path / "out"), LLAMAFACTORY, image_root=tmp_path / "pictures")
    assert (report.rows, report.missing) == (48, 2)
    listed = examples_of(tmp_path / "out" / "drawn.missing-images.jsonl")
    assert {item["image"] for item in listed} == {"picture-0003.jpg", "picture-0004.png"}
    assert {item["reason"] for item in listed} == {"no such file below the root"}
    kept = {example["id"] for example in examples_of(tmp_path / "out" / "drawn.jsonl")}
    assert not kept & {item["key"] for item in listed}


def test_a_wrong_root_is_an_error_and_leaves_nothing(own: Dataset, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInputError, match=r"none of 50 pictures is there, like 'picture-\d{4}.png'"):
        export_for_trainer(own, str(tmp_path / "out"), LLAMAFACTORY, image_root=tmp_path / "empty")
    assert list((tmp_path / "out").iterdir()) == []
    with pytest.raises(BadInputError, match="there is no such folder"):
        export_for_trainer(own, str(tmp_path / "out"), LLAMAFACTORY, image_root=tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        ("../outside.png", "the path contains `..`"),
        ("a/../../outside.png", "the path contains `..`"),
        ("/etc/passwd", "the path is absolute"),
        ("https://example.org/x.png", "an address"),
        ("s3://bucket/x.png", "an address"),
        ("tars/0.tar#x.png", "inside a container"),
        ("a\\b.png", "a backslash"),
        ("nul\0.png", "NUL"),
    ],
)
def test_no_path_leads_out_of_the_root(tmp_path: Path, image: str, reason: str) -> None:
    from caprl_core.export.image_paths import NoImage, RootedImages, Told

    (tmp_path / "outside.png").write_bytes(b"x")
    (tmp_path / "root" / "a").mkdir(parents=True)
    found = RootedImages(Told(tmp_path / "root", None)).find({"image": image})
    assert isinstance(found, NoImage) and reason in found.reason


def test_a_name_with_a_hash_is_a_file_where_there_is_one(tmp_path: Path) -> None:
    from caprl_core.export.image_paths import RootedImages, Told

    (tmp_path / "room #4.png").write_bytes(b"x")
    assert RootedImages(Told(tmp_path, tmp_path)).find({"image": "room #4.png"}) == "room #4.png"


# Beside the examples


def test_dataset_info_keeps_the_entries_of_others(dataset: Dataset, tmp_path: Path) -> None:
    (tmp_path / DATASET_INFO).write_text('{"alpaca_en": {"hf_hub_url": "x/y"}, "drawn": {"file_name": "old.json"}}')
    export_for_trainer(dataset, str(tmp_path), LLAMAFACTORY, division=Division(samples=(4, 8), validation=0.3))
    info = json.loads((tmp_path / DATASET_INFO).read_text())
    assert set(info) == {"alpaca_en", "drawn", "drawn-4", "drawn-8", "drawn-validation"}
    assert info["alpaca_en"] == {"hf_hub_url": "x/y"} and info["drawn-4"]["file_name"] == "drawn-4.jsonl"
    assert len(examples_of(tmp_path / "drawn-4.jsonl")) == 4


@pytest.mark.parametrize("content", [b"not json", b"[1]"])
def test_a_dataset_info_that_is_none_is_not_replaced(dataset: Dataset, tmp_path: Path, content: bytes) -> None:
    (tmp_path / DATASET_INFO).write_bytes(content)
    with pytest.raises(BadInputError, match="dataset_info.json in the folder"):
        export_for_trainer(dataset, str(tmp_path), LLAMAFACTORY)
    assert (tmp_path / DATASET_INFO).read_bytes() == content and not (tmp_path / "drawn.jsonl").exists()


def test_what_the_format_cannot_serve_is_refused(dataset: Dataset, tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="not both"):
        export_for_trainer(dataset, str(tmp_path / "o"), LLAMAFACTORY, images=tmp_path / "i", image_root=tmp_path)
    with pytest.raises(BadInputError, match="reads local files"):
        export_for_trainer(dataset, "s3://bucket/x", LLAMAFACTORY)
    (tmp_path / "file").write_text("x")
    with pytest.raises(BadInputError, match="is a file"):
        export_for_trainer(dataset, str(tmp_path / "file"), LLAMAFACTORY)


def test_an_unfinished_dataset_is_refused_unless_partial(tmp_path: Path) -> None:
    dataset = made(tmp_path, str(tmp_path / "dataset"), shards=1)
    with pytest.raises(IncompleteError, match="31 of 51 samples are still pending"):
        export_for_trainer(dataset, str(tmp_path / "out"), LLAMAFACTORY)
    assert export_for_trainer(dataset, str(tmp_path / "out"), LLAMAFACTORY, partial=True).pending == 31


def test_a_changed_tar_stops_the_export(own: Dataset, tmp_path: Path) -> None:
    tar = tmp_path / "dataset" / "shards" / "drawn-000001.tar"
    data = bytearray(tar.read_bytes())
    data[600] ^= 1  # inside the first picture
    tar.write_bytes(data)
    with pytest.raises(StoreError, match="has not the sha256 of its row"):
        export_for_trainer(own, str(tmp_path / "out"), LLAMAFACTORY)
    assert not (tmp_path / "out" / "drawn.jsonl").exists()
