"""What we release loads with `datasets` and has the fields and types of the released CapRL-QA-75K."""

import hashlib
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from caprl_core.errors import BadInputError, StoreError
from caprl_core.qa.sets.curated import curate
from caprl_core.qa.sets.released import write_released
from caprl_core.recipe.qa import FilterRecipe
from caprl_core.shards.current import current_commits
from caprl_core.shards.dataset import Dataset
from caprl_core.shards.shard_lines import shard_lines
from caprl_core.storage.store import Store
from support.answered_dataset import answer_row, asked, committed, votes
from support.made_datasets import made

GOOD = (votes(4), votes(0, 4))


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """A dataset whose tars carry drawn pictures, JPEG and PNG."""
    folder = tmp_path_factory.mktemp("images")
    return made(folder, str(folder / "generate"), pictures=30)


def image_rows(images: Dataset) -> Iterator[dict[str, Any]]:
    for shard in shard_lines(images.store, current_commits(images).records, threads=2):
        name = shard.record.object("tar").final_key.removeprefix("shards/")
        for line in shard.lines:
            row = orjson.loads(line)
            yield {**row, "reference": f"{name}#{row['image_file']}"}


@pytest.fixture(scope="module")
def answers(images: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Three questions on every picture, the second of which is not kept."""
    rows = []
    for row in image_rows(images):
        key = row["key"]
        questions = [
            asked(key, 1, *GOOD, options=("红", "绿", "蓝"), gold=2),
            asked(key, 2, votes(4), votes(4)),
            asked(key, 3, *GOOD, stem="Which\ntwo lines?"),
        ]
        rows.append(answer_row(key, questions, image=row["reference"], image_sha256=row["image_sha256"]))
    return committed(str(tmp_path_factory.mktemp("answers")), "answer", [rows[:20], rows[20:]])


@pytest.fixture(scope="module")
def curated(answers: Dataset, tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, str]:
    store = Store(str(tmp_path_factory.mktemp("set")))
    return store, curate(answers, FilterRecipe(held_out=0.2), store).id


def released(curated: tuple[Store, str], images: Dataset, folder: Path, **options: Any) -> Path:
    write_released(*curated, images.store, Store(str(folder)), **options)
    return folder


def test_the_fields_and_types_are_those_of_the_released_set(
    curated: tuple[Store, str], images: Dataset, tmp_path: Path
) -> None:
    folder = released(curated, images, tmp_path / "out")
    schema = pq.read_schema(folder / "train-00000-of-00001.parquet")
    text = pa.string()
    question = {"question": text, "choices": pa.list_(text), "answer": text}
    assert schema.field("id").type == schema.field("data_source").type == text
    assert schema.field("image").type == pa.struct({"bytes": pa.binary(), "path": text})
    (turn,) = [schema.field("prompt").type.value_type]
    assert turn == pa.struct({"role": text, "content": text})
    truth = schema.field("reward_model").type
    assert [field.name for field in truth] == ["ground_truth"]
    assert truth.field("ground_truth").type.value_type == pa.struct(question)
    assert schema.names[:5] == ["id", "image", "prompt", "data_source", "reward_model"]


def test_datasets_loads_it_and_decodes_the_images(
    curated: tuple[Store, str], images: Dataset, answers: Dataset, tmp_path: Path
) -> None:
    import datasets

    folder = released(curated, images, tmp_path / "out", rows_per_file=10)
    loaded = datasets.load_dataset("parquet", data_dir=str(folder), cache_dir=str(tmp_path / "cache"))["train"]
    features = loaded.features
    assert isinstance(features["image"], datasets.Image)
    assert features["reward_model"]["ground_truth"].feature["choices"].feature == datasets.Value("string")
    stored = {row["key"]: row for row in image_rows(images)}
    for row in loaded:
        source = stored[row["key"]]
        assert isinstance(row["image"], Image.Image)
        assert row["image"].size == (source["image_width"], source["image_height"])
        assert row["prompt"] == [{"role": "user", "content": "<image> Please describe this image in detail."}]
        assert row["data_source"] == "image_caption_rl"
        assert re.fullmatch(r"[0-9a-f]{32}", row["id"])
        first, second = row["reward_model"]["ground_truth"]
        assert first["choices"]["ABC".index(first["answer"])][3:] == "蓝"
        assert [choice[:3] for choice in first["choices"]] == ["A) ", "B) ", "C) "]
        assert second["question"] == "Which\ntwo lines?" and len(second["choices"]) == 4
        assert [one["visual_accuracy"] for one in row["evidence"]] == [1.0, 1.0]
        assert (row["writer"]["model"], row["answerer"]["model"]) == ("test/writer", "test/answerer")
    assert len(set(loaded["id"])) == len(loaded)


def test_image_bytes_are_those_of_the_tar(curated: tuple[Store, str], images: Dataset, tmp_path: Path) -> None:
    folder = released(curated, images, tmp_path / "out")
    rows = pq.read_table(folder / "train-00000-of-00001.parquet").to_pylist()
    stored = {row["key"]: row for row in image_rows(images)}
    for row in rows:
        data = row["image"]["bytes"]
        assert hashlib.sha256(data).hexdigest() == row["image_sha256"] == stored[row["key"]]["image_sha256"]
        assert row["image"]["path"] == stored[row["key"]]["image_file"]
        assert Image.open(io.BytesIO(data)).format == stored[row["key"]]["image_format"]


def test_both_sides_together_are_all_images_in_order(
    curated: tuple[Store, str], images: Dataset, tmp_path: Path
) -> None:
    store, curated_id = curated
    out = Store(str(tmp_path / "out"))
    train = write_released(store, curated_id, images.store, out, rows_per_file=7)
    held = write_released(store, curated_id, images.store, out, split="held_out", rows_per_file=7)
    assert [file.name for file in held.files][0].startswith("test-00000-of-")
    assert all(file.rows == 7 for file in train.files[:-1]) and train.images + held.images == 30
    assert (train.questions, held.questions) == (2 * train.images, 2 * held.images)
    keys = {
        side: [key for file in report.files for key in pq.read_table(out.open(file.name))["key"].to_pylist()]
        for side, report in (("train", train), ("held_out", held))
    }
    planned = [row["key"] for row in image_rows(images)]
    assert keys["train"] == [key for key in planned if key in set(keys["train"])]
    assert sorted(keys["train"] + keys["held_out"]) == sorted(planned)


def test_the_same_set_gives_the_same_bytes_also_from_and_to_s3(
    curated: tuple[Store, str], images: Dataset, tmp_path: Path, bucket: str
) -> None:
    remote = Store(f"s3://{bucket}/set")
    for source, prefix in ((curated[0], "curated"), (images.store, "shards")):
        for item in source.list(prefix):
            remote.put(item.key, source.get(item.key))
    here, there = Store(str(tmp_path / "out")), Store(f"s3://{bucket}/out")
    first = write_released(*curated, images.store, here, rows_per_file=9, threads=1)
    second = write_released(remote, curated[1], remote, there, rows_per_file=9, threads=6)
    assert first == second
    for file in first.files:
        assert hashlib.sha256(there.get(file.name)).hexdigest() == file.sha256
        assert here.get(file.name) == there.get(file.name)


def test_the_prompt_can_be_chosen(curated: tuple[Store, str], images: Dataset, tmp_path: Path) -> None:
    folder = released(curated, images, tmp_path / "out", prompt="<image> 请描述")
    (row, *_) = pq.read_table(folder / "train-00000-of-00001.parquet", columns=["prompt"]).to_pylist()
    assert row["prompt"] == [{"role": "user", "content": "<image> 请描述"}]


def test_an_empty_side_is_one_empty_file(answers: Dataset, images: Dataset, tmp_path: Path) -> None:
    store = Store(str(tmp_path / "set"))
    report = curate(answers, FilterRecipe(visual_above=1.0), store)
    written = write_released(store, report.id, images.store, Store(str(tmp_path / "out")))
    assert [(file.name, file.rows) for file in written.files] == [("train-00000-of-00001.parquet", 0)]
    assert pq.read_table(tmp_path / "out" / "train-00000-of-00001.parquet").num_rows == 0


# Damage and mistakes


def test_another_image_in_the_tar_is_noticed(answers: Dataset, images: Dataset, tmp_path: Path) -> None:
    copy = Store(str(tmp_path / "generate"))
    for item in images.store.list("shards"):
        copy.put(item.key, images.store.get(item.key))
    row = next(image_rows(images))
    data = bytearray(copy.get("shards/drawn-000000.tar"))
    data[512 + row["image_size"] // 2] ^= 1  # inside the first member, past its header
    copy.put("shards/drawn-000000.tar", bytes(data))
    store = Store(str(tmp_path / "set"))
    report = curate(answers, FilterRecipe(), store)
    with pytest.raises(StoreError, match="is not the image that was asked about"):
        write_released(store, report.id, copy, Store(str(tmp_path / "out")))
    assert not list(Store(str(tmp_path / "out")).list(""))


def test_a_missing_member_is_named(answers: Dataset, images: Dataset, tmp_path: Path) -> None:
    store = Store(str(tmp_path / "set"))
    rows = [answer_row("lost", [asked("lost", 1, *GOOD)], image="drawn-000000.tar#lost.png")]
    report = curate(committed(str(tmp_path / "answer"), "answer", [rows]), FilterRecipe(), store)
    with pytest.raises(StoreError, match=r"drawn-000000.tar#lost.png"):
        write_released(store, report.id, images.store, Store(str(tmp_path / "out")))


def test_a_folder_with_another_release_is_refused(curated: tuple[Store, str], images: Dataset, tmp_path: Path) -> None:
    folder = released(curated, images, tmp_path / "out", rows_per_file=10)
    with pytest.raises(BadInputError, match="is of another release"):
        released(curated, images, folder, rows_per_file=20)
    released(curated, images, folder, rows_per_file=10)  # the same again is no other


def test_a_set_that_is_not_there_is_refused(curated: tuple[Store, str], images: Dataset, tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="no curated set here"):
        write_released(curated[0], "0" * 12, images.store, Store(str(tmp_path / "out")))
