"""LLaMA-Factory's own loader and template read an export with pictures: no warning, no row lost, no letter changed."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import orjson
import pytest

from caprl_core.export.instructions import Instructions
from caprl_core.export.markers import unescape
from caprl_core.export.trainer_files import export_for_trainer
from caprl_core.export.trainers.llamafactory import LLAMAFACTORY
from caprl_core.shards.dataset import Dataset
from support.byte_model import byte_model
from support.hostile_captions import HOSTILE, captioned
from support.trainer_environment import llamafactory_python

pytestmark = [pytest.mark.long, pytest.mark.timeout(1800)]
PROBE = Path(__file__).parents[1] / "support" / "llamafactory_probe.py"


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory, corpus: Path) -> Dataset:
    """Every picture of the corpus, good and bad, with hostile captions."""
    folder = tmp_path_factory.mktemp("corpus")
    for name in ("images", "bad_images"):
        shutil.copytree(corpus / name, folder / "pictures" / name)
    return captioned(folder, str(folder / "dataset"), HOSTILE, images=folder / "pictures")


def rows_of(dataset: Dataset) -> list[dict[str, Any]]:
    keys = sorted(item.key for item in dataset.store.list("shards") if item.key.endswith(".jsonl"))
    return [orjson.loads(line) for key in keys for line in dataset.store.get(key).splitlines()]


def loaded(folder: Path, name: str, model: Path, cache: Path, *options: str) -> dict[str, Any]:
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(cache), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [llamafactory_python(), str(PROBE), str(model), str(folder), name, *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr[-4000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("layout", ["jsonl", "json"])
def test_every_row_is_read_with_its_picture_and_its_caption(dataset: Dataset, tmp_path: Path, layout: Any) -> None:
    rows = rows_of(dataset)
    report = export_for_trainer(dataset, str(tmp_path / "out"), LLAMAFACTORY, layout=layout)
    found = loaded(tmp_path / "out", dataset.record.name, byte_model(tmp_path / "model"), tmp_path / "cache")
    assert found["warnings"] == []
    assert found["rows"] == report.rows == len(rows) > 50
    for row, example in zip(rows, found["examples"], strict=True):
        assert unescape(example["answer"].removesuffix("<|im_end|>\n").removesuffix("<|im_end|>")) == row["caption"]
        assert example["prompt"].count("<|vision_start|>") == 1 and example["image_tokens"] > 0
        assert example["prompt"].count("<|image_pad|>") == example["image_tokens"]
        [picture] = example["images"]
        assert Path(picture).is_file() and row["member_sha256"] in picture


def test_instructions_and_pictures_that_lie_elsewhere_are_read_too(dataset: Dataset, tmp_path: Path) -> None:
    asked = ("Say what you see.", "What is shown in <image>, and where?")
    export_for_trainer(
        dataset,
        str(tmp_path / "out"),
        LLAMAFACTORY,
        image_root=Path(dataset.store.uri).parent / "pictures",
        instructions=Instructions(asked, seed=3),
    )
    found = loaded(tmp_path / "out", dataset.record.name, byte_model(tmp_path / "model"), tmp_path / "cache")
    assert found["warnings"] == [] and found["rows"] == len(rows_of(dataset))
    assert all(("Say what" in one["prompt"]) != ("What is shown in " in one["prompt"]) for one in found["examples"])
