"""Real pictures and hostile files through real engines: every file a row or a reason, and every reader agrees.

The engines are real; the captioner is tiny and its weights are random, so what is tested is the factory, not the words.
"""

import hashlib
import importlib.util
import io
import json
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.json as pj
import pytest
import webdataset

from caprl_core.captioning.stage import CaptionStage
from caprl_core.engines.open import open_engine
from caprl_core.engines.server import VllmServer
from caprl_core.export.features import features, row_features
from caprl_core.recipe.models import CaptionRecipe
from caprl_core.shards.dataset import Dataset
from caprl_core.shards.lane import Lane
from caprl_core.shards.previous import read_results
from caprl_core.shards.verify import verify
from caprl_core.storage.commit import read_commit
from caprl_core.storage.layout import Unit
from caprl_core.world.tiny_captioner import build_tiny_captioner
from support.drawn_dataset import planned

GOOD, HOSTILE = 47, 13
BROKEN_EXIF = {
    "pillow_photoshop-200dpi-broken.jpg",
    "pillow_hopper_bad_exif.jpg",
    "pillow_exif_typeerror.jpg",
    "pillow_invalid-exif.jpg",
}
"""JPEGs of which only the EXIF is broken: they decode, so they must be rows."""

ENGINES = ["vllm", "openai", "transformers"]
BUDGET = {"vllm": 256, "openai": 256, "transformers": 64}
"""Visual tokens an image may take; transformers on a CPU is slower, and its prompt shorter for that."""


class Run(NamedTuple):
    """A finished dataset and the folder its pictures came from."""

    dataset: Dataset
    pictures: Path


@pytest.fixture(scope="module")
def pictures(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    for part in ("images", "bad_images"):
        shutil.copytree(corpus / part, folder / part)
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_captioner(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="module", params=ENGINES)
def run(
    request: pytest.FixtureRequest, pictures: Path, model: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Run]:
    kind: str = request.param
    if kind != "transformers" and importlib.util.find_spec("vllm") is None:
        pytest.skip("vLLM cannot be installed on this machine (make setup says why)")
    output = str(tmp_path_factory.mktemp(kind) / "out")
    if kind == "openai":
        with VllmServer(model, name="captioner") as server:
            yield Run(caption(recipe(kind, pictures, model, output, server.url)), pictures)
        return
    yield Run(caption(recipe(kind, pictures, model, output)), pictures)


def recipe(kind: str, pictures: Path, model: Path, output: str, *urls: str) -> CaptionRecipe:
    table = Path(output).parent / "files.jsonl"
    names = sorted(path.relative_to(pictures).as_posix() for path in pictures.rglob("*") if path.is_file())
    table.write_text("".join(json.dumps({"image": name}) + "\n" for name in names))
    engine: dict[str, Any] = {"kind": kind, "concurrency": 16, "model_path": str(model), "max_model_len": 2048}
    if kind == "openai":
        engine |= {"urls": urls, "served_name": "captioner", "model_path": None}
    return CaptionRecipe.model_validate(
        {
            "name": "corpus",
            "sources": [{"name": "files", "kind": "table", "uri": str(table), "roots": {"": str(pictures)}}],
            "dataset": {"shard_samples": 25},
            "model": {"name": "tiny-captioner", "dtype": "float32"},
            "prompt": {"id": "detail", "text": "Please describe this image in detail."},
            "sampling": {"max_tokens": 16},
            "image": {"max_pixels": BUDGET[kind] * 28 * 28},
            "checks": dict.fromkeys(("refusal", "repetition", "truncation", "prompt_leak"), False)
            | {"max_attempts": 3},
            "execution": {
                "output": output,
                "engine": engine | {"enforce_eager": True},
                "gate": {"max_share": {"*": 1.0}},
                "runner": {"decode_workers": 2, "flush_s": 0.5},
            },
        }
    )


def caption(of: CaptionRecipe) -> Dataset:
    dataset = planned(of)
    with Lane(of, dataset, CaptionStage(of), open_engine) as lane:
        for shard in range(dataset.record.shards):
            lane.run(Unit(shard, 0))
    return dataset


def ledger(run: Run) -> dict[str, Any]:
    return {
        result.ledger["image"]: result.ledger
        for shard in range(run.dataset.record.shards)
        for result in read_results(run.dataset.store, read_commit(run.dataset.store, Unit(shard, 0))).values()
    }


def rows(run: Run) -> list[dict[str, Any]]:
    return [
        json.loads(line)
        for shard in range(run.dataset.record.shards)
        for line in (Path(run.dataset.store.uri) / "shards" / f"corpus-{shard:06d}.jsonl").read_text().splitlines()
    ]


def tars(run: Run) -> list[Path]:
    return sorted((Path(run.dataset.store.uri) / "shards").glob("*.tar"))


def test_every_file_is_a_row_or_a_ledger_line_with_its_reason(run: Run) -> None:
    report = verify(run.dataset, deep=True)
    assert report.sound, report.problems
    assert (report.planned, report.pending) == (GOOD + HOSTILE, 0)
    lines = ledger(run)
    assert len(lines) == GOOD + HOSTILE
    good = {name: line for name, line in lines.items() if name.startswith("images/")}
    assert {name: line["reason"] for name, line in good.items() if line["status"] != "row"} == {}
    assert all(lines[f"bad_images/{name}"]["status"] == "row" for name in BROKEN_EXIF)
    assert all(line["reason"] for line in lines.values() if line["status"] == "rejected")
    assert report.rejected >= 5, "the bombs and broken files must be refused"


def test_the_tars_carry_the_original_bytes(run: Run) -> None:
    by_file = {row["image_file"]: row for row in rows(run)}
    seen = 0
    for path in tars(run):
        with tarfile.open(path) as tar:
            for member in tar:
                if member.name in by_file:
                    row = by_file[member.name]
                    content = tar.extractfile(member).read()  # type: ignore[union-attr]
                    assert content == (run.pictures / row["image"]).read_bytes()
                    assert row["image_sha256"] == hashlib.sha256(content).hexdigest()
                    seen += 1
    assert seen == len(by_file)


def test_webdataset_tarfile_datasets_and_pyarrow_read_the_same(run: Run) -> None:
    from datasets import load_dataset

    expected = rows(run)
    urls = [str(path) for path in tars(run)]
    samples = list(webdataset.WebDataset(urls, shardshuffle=False))
    assert [json.loads(sample["json"]) for sample in samples] == expected
    assert [sample["txt"].decode() for sample in samples] == [row["caption"] for row in expected]
    hub = load_dataset(
        "webdataset",
        data_files={"train": urls},
        split="train",
        features=features(CaptionStage.fields),
        cache_dir=str(Path(run.dataset.store.uri) / "hf-cache"),
    )
    assert [sample["json"] for sample in hub] == expected
    assert hub[0]["json"]["caption"] == hub[0]["txt"]
    jsonl = sorted(str(path) for path in (Path(run.dataset.store.uri) / "shards").glob("*.jsonl"))
    lines = load_dataset(
        "json",
        data_files=jsonl,
        split="train",
        features=row_features(CaptionStage.fields),
        cache_dir=str(Path(run.dataset.store.uri) / "hf-cache"),
    )
    assert list(lines) == expected
    arrow = [row for path in jsonl for row in pj.read_json(io.BytesIO(Path(path).read_bytes())).to_pylist()]
    assert [row["caption"] for row in arrow] == [row["caption"] for row in expected]


def test_rows_tell_who_answered(run: Run) -> None:
    row = rows(run)[0]
    assert row["model"] == "tiny-captioner"
    assert row["engine"] in ENGINES
    assert row["engine_version"]
    assert row["prompt_tokens"] > row["completion_tokens"] > 0
    assert row["completion_tokens"] <= 16
