"""Hugging Face `datasets` reads a dataset that mixes image formats, told by features or by the card."""

import hashlib
from pathlib import Path

import pytest
from PIL import Image

from caprl_core.captioning.stage import CaptionStage
from caprl_core.export.card import dataset_card
from caprl_core.export.features import IMAGE_COLUMNS, features, features_yaml, row_features
from caprl_core.shards.dataset import Dataset
from caprl_core.storage.commit import read_commit
from caprl_core.storage.layout import Unit
from support.made_datasets import made

datasets = pytest.importorskip("datasets")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("made")
    return made(folder, str(folder / "dataset"))


@pytest.fixture(autouse=True)
def private_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)


def assert_whole(loaded: list[dict]) -> None:
    """Every row with its image, byte for byte."""
    assert len(loaded) == 50 and len({sample["__key__"] for sample in loaded}) == 50
    for sample in loaded:
        images = [sample[column] for column in IMAGE_COLUMNS if sample[column] is not None]
        assert len(images) == 1
        assert hashlib.sha256(images[0]["bytes"]).hexdigest() == sample["json"]["image_sha256"]
        assert sample["txt"] == sample["json"]["caption"]


def undecoded(loaded: "datasets.Dataset") -> list[dict]:
    for column in IMAGE_COLUMNS:
        loaded = loaded.cast_column(column, datasets.Image(decode=False))
    return list(loaded)


def test_without_features_datasets_refuses_the_mix(dataset: Dataset) -> None:
    with pytest.raises(Exception, match="don't share the same prefix or the same types"):
        datasets.load_dataset("webdataset", data_files=f"{dataset.store.uri}/shards/*.tar", split="train")


def test_with_features_every_sample_comes_back(dataset: Dataset) -> None:
    loaded = datasets.load_dataset(
        "webdataset",
        data_files=f"{dataset.store.uri}/shards/*.tar",
        features=features(CaptionStage.fields),
        split="train",
    )
    assert_whole(undecoded(loaded))


def test_with_the_card_the_folder_alone_is_enough(dataset: Dataset) -> None:
    card = Path(dataset.store.uri) / "README.md"
    card.write_text(dataset_card(dataset, CaptionStage.fields, licence="cc-by-nc-4.0"))
    assert_whole(undecoded(datasets.load_dataset(dataset.store.uri, split="train")))
    streamed = next(iter(datasets.load_dataset(dataset.store.uri, split="train", streaming=True)))
    assert isinstance(streamed["jpg"] or streamed["png"], Image.Image)


def test_the_cards_features_are_those_of_the_code() -> None:
    assert datasets.Features._from_yaml_list(features_yaml(CaptionStage.fields)) == features(CaptionStage.fields)


def test_the_rows_load_with_their_types(dataset: Dataset) -> None:
    loaded = datasets.load_dataset(
        "json",
        data_files=f"{dataset.store.uri}/shards/*.jsonl",
        features=row_features(CaptionStage.fields),
        split="train",
    )
    assert loaded.num_rows == 50 and loaded.features["record_id"].dtype == "string"


def test_the_card_tells_counts_licence_and_recipe(dataset: Dataset) -> None:
    text = dataset_card(dataset, CaptionStage.fields, licence="cc-by-nc-4.0")
    assert "license: cc-by-nc-4.0" in text and "51 planned: 50 rows, 1 rejected, 0 pending" in text
    assert "license" not in dataset_card(dataset, CaptionStage.fields)


def test_the_card_of_a_revised_dataset_leaves_the_old_revision_out(tmp_path: Path) -> None:
    dataset = made(tmp_path, str(tmp_path / "dataset"))
    record = read_commit(dataset.store, Unit(0, 0))
    objects = tuple(
        item.model_copy(update={"final_key": Unit(0, 1).final_key("drawn", item.role)}) for item in record.objects
    )
    for old, new in zip(record.objects, objects, strict=True):
        dataset.store.copy(old.final_key, new.final_key)
    second = record.model_copy(update={"revision": 1, "supersedes": 0, "objects": objects})
    dataset.store.create(second.unit.commit_key, second.encode())
    (tmp_path / "dataset" / "README.md").write_text(dataset_card(dataset, CaptionStage.fields))
    assert_whole(undecoded(datasets.load_dataset(dataset.store.uri, split="train")))
