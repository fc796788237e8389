"""`caprl export`, `download`, `card` and `doctor`: what they print, write and end with."""

import json
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml

from caprl_core.recipe.models import CaptionRecipe
from support.drawn_dataset import planned, recipe_for
from support.made_datasets import annotate, made


def caprl(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "caprl_core.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)


def written(recipe: CaptionRecipe, path: Path, **execution: Any) -> Path:
    """The recipe as a user would have it."""
    values = recipe.model_dump(mode="json", exclude_unset=True)
    values["execution"] |= execution
    path.write_text(yaml.safe_dump(values))
    return path


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    made(folder, str(folder / "dataset"))
    written(recipe_for(folder / "pictures", str(folder / "dataset")), folder / "recipe.yaml")
    return folder


def test_a_dataset_is_exported_by_its_recipe_or_by_its_address(dataset: Path, tmp_path: Path) -> None:
    by_recipe = caprl("export", dataset / "recipe.yaml", "--out", tmp_path / "a.jsonl", "--form", "minimal")
    by_address = caprl("export", dataset / "dataset", "--out", tmp_path / "b.jsonl", "--form", "minimal")
    assert (by_recipe.returncode, by_address.returncode) == (0, 0), by_recipe.stderr + by_address.stderr
    assert "50 rows; 1 samples were rejected" in by_recipe.stdout
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "b.jsonl").read_bytes()


def test_an_export_tells_scripts_what_it_wrote(dataset: Path, tmp_path: Path) -> None:
    done = caprl(
        "export", dataset / "dataset", "-o", tmp_path / "a.jsonl", "--files", "2", "--fields", "image,key", "--json"
    )
    report = json.loads(done.stdout)
    assert [item["rows"] for item in report["files"]] == [25, 25] and report["rows"] == 50
    assert all((tmp_path / item["name"]).is_file() for item in report["files"])


def test_an_unfinished_dataset_ends_an_export_with_3_and_the_count(dataset: Path, tmp_path: Path) -> None:
    recipe = recipe_for(dataset / "pictures", str(tmp_path / "dataset"))
    unfinished = made(dataset, str(tmp_path / "dataset"), shards=2)
    done = caprl("export", tmp_path / "dataset", "-o", tmp_path / "a.jsonl")
    assert done.returncode == 3 and "11 of 51 samples are still pending" in done.stderr
    assert caprl("export", tmp_path / "dataset", "-o", tmp_path / "a.jsonl", "--partial").returncode == 0
    annotate(recipe, unfinished)
    assert caprl("export", tmp_path / "dataset", "-o", tmp_path / "a.jsonl").returncode == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{}/nowhere", "-o", "x.jsonl"], "no such folder"),
        (["{}/dataset", "-o", "x.jsonl", "--form", "llava"], "standard, full, minimal; llava is a --format"),
        (["{}/dataset", "-o", "x.jsonl", "--fields", "captoin"], "no column 'captoin'"),
        (["{}/pictures", "-o", "x.jsonl"], "no dataset here"),
        (["{}/dataset", "-o", "x", "--format", "trl"], "take one of jsonl, parquet, huggingface, llamafactory"),
        (["{}/dataset", "-o", "x", "--format", "llava", "--form", "full"], "--form is for jsonl and parquet"),
        (["{}/dataset", "-o", "x", "--images", "y"], "--images is for llamafactory"),
        (["{}/dataset", "-o", "x", "--format", "llava", "--layout", "jsonl"], "llava reads json"),
        (["{}/dataset", "-o", "x", "--format", "llava", "--layout", "csv"], "take json or jsonl"),
        (["{}/dataset", "-o", "x", "--license", "mit"], "--license is for huggingface"),
        (["{}/dataset", "-o", "x", "--format", "huggingface", "--source-licence", "mit"], "write SOURCE=LICENCE"),
        (["{}/dataset", "-o", "x", "--sample", "many"], "a number of rows, like 500k"),
        (["{}/dataset", "-o", "x", "--sample", "1m"], "there are 50 rows to draw from"),
        (["{}/dataset", "-o", "x", "--join", "y.json"], "no objects of a JSON file"),
        (["{}/dataset", "-o", "x", "--join", "y.json", "--format", "llava"], "leave --format llava out"),
        (["{}/dataset", "-o", "x", "--format", "llava", "--instructions", "nowhere.txt"], "cannot be read"),
    ],
)
def test_a_wrong_export_ends_with_2(dataset: Path, arguments: list[str], message: str) -> None:
    done = caprl("export", *(argument.format(dataset) for argument in arguments))
    assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("name", ["llamafactory", "llava", "ms-swift", "qwen-vl-finetune"])
def test_a_trainers_format_is_written_with_pictures_and_how_to_use_it(dataset: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "texts.txt").write_text("Describe it.\nWhat is this?\n")
    done = caprl(
        "export",
        dataset / "dataset",
        "-o",
        tmp_path / "out",
        "--format",
        name,
        "--instructions",
        tmp_path / "texts.txt",
    )
    assert done.returncode == 0 and "50 rows" in done.stdout and str(tmp_path / "out") in done.stdout, done.stderr
    assert len([path for path in (tmp_path / "out" / "images").rglob("*") if path.is_file()]) == 50


def test_samples_and_a_held_out_side_are_files_of_their_own(dataset: Path, tmp_path: Path) -> None:
    options = ["--sample", "10", "--sample", "20", "--validation", "0.2", "--seed", "4", "--json"]
    done = caprl("export", dataset / "dataset", "-o", tmp_path / "a.parquet", "--format", "parquet", *options)
    report = json.loads(done.stdout)
    assert {item["name"] for item in report["files"]} == {"a-10.parquet", "a-20.parquet", "a-validation.parquet"}


def test_a_hugging_face_folder_is_written_with_stated_licences(dataset: Path, tmp_path: Path) -> None:
    options = ["--format", "huggingface", "--license", "cc-by-4.0", "--source-licence", "folder=CC0"]
    done = caprl("export", dataset / "dataset", "-o", tmp_path / "out", *options)
    assert done.returncode == 0 and f'load_dataset("{tmp_path}/out")' in done.stdout, done.stderr
    assert "| `folder` | folder | `CC0` |" in (tmp_path / "out" / "README.md").read_text()


def test_pictures_that_are_not_there_are_told_of(dataset: Path, tmp_path: Path) -> None:
    shutil.copytree(dataset / "pictures", tmp_path / "pictures")
    (tmp_path / "pictures" / "picture-0003.jpg").unlink()
    done = caprl(
        "export",
        dataset / "dataset",
        "-o",
        tmp_path / "out",
        "--format",
        "llava",
        "--image-root",
        tmp_path / "pictures",
    )
    assert done.returncode == 0 and "1 rows are left out" in done.stderr and "49 rows" in done.stdout


def test_captions_are_joined_to_the_sources_own_records(dataset: Path, tmp_path: Path) -> None:
    names = sorted(path.name for path in (dataset / "pictures").glob("*.png"))
    turns = [{"from": "human", "value": "<image>\nDescribe."}, {"from": "gpt", "value": "old"}]
    records = [{"id": name, "image": name, "conversations": turns} for name in names]
    (tmp_path / "source.json").write_text(json.dumps([*records, {"id": "y", "image": "z.png", "conversations": turns}]))
    source = {"name": "lists", "kind": "sharegpt4v", "uri": str(tmp_path / "source.json")}
    source["roots"] = {"": str(dataset / "pictures")}  # type: ignore[assignment]
    recipe = recipe_for(dataset / "pictures", str(tmp_path / "out"), sources=[source])
    annotate(recipe, planned(recipe))
    done = caprl("export", tmp_path / "out", "-o", tmp_path / "new.json", "--join", tmp_path / "source.json", "--json")
    report = json.loads(done.stdout)
    assert (report["joined"], report["unmatched"]) == (len(names), 1), done.stderr
    kept = caprl(
        "export",
        tmp_path / "out",
        "-o",
        tmp_path / "new.json",
        "--join",
        tmp_path / "source.json",
        "--unmatched",
        "keep",
    )
    assert kept.returncode == 0 and f"{len(names)} with our caption, 1 without" in kept.stdout
    assert len(json.loads((tmp_path / "new.json").read_text())) == len(names) + 1


def test_a_download_is_made_resumed_and_judged(dataset: Path, tmp_path: Path) -> None:
    source = tmp_path / "dataset"
    shutil.copytree(dataset / "dataset", source)
    first = caprl("download", source, tmp_path / "copy")
    assert first.returncode == 0 and "10 files fetched" in first.stdout, first.stderr
    again = caprl("download", source, tmp_path / "copy", "--json")
    report = json.loads(again.stdout)
    assert (report["fetched"], report["unchanged"], report["complete"]) == (0, 10, True)
    tar = source / "shards" / "drawn-000001.tar"
    tar.chmod(0o644)
    tar.write_bytes(tar.read_bytes()[:-1] + b"\x01")
    wrong = caprl("download", source, tmp_path / "other", "--roles", "tar", "--shards", "1")
    assert wrong.returncode == 4 and "does not have the sha256" in wrong.stderr
    tar.unlink()
    assert caprl("download", source, tmp_path / "other", "--roles", "tar", "--shards", "0-2").returncode == 1


@pytest.mark.parametrize("shards", ["1-", "x", "-3", "0,,1"])
def test_shards_are_numbers_and_ranges(dataset: Path, tmp_path: Path, shards: str) -> None:
    done = caprl("download", dataset / "dataset", tmp_path / "copy", f"--shards={shards}")
    assert done.returncode == 2 and "numbers and ranges" in done.stderr


@pytest.mark.parametrize("shards", ["5-3", "0-99999999999"])
def test_a_range_of_shards_that_cannot_be_is_refused(dataset: Path, tmp_path: Path, shards: str) -> None:
    done = caprl("download", dataset / "dataset", tmp_path / "copy", f"--shards={shards}")
    assert done.returncode == 2 and "no range of shard numbers" in done.stderr


def test_the_card_is_printed_or_written_beside_the_shards(dataset: Path) -> None:
    printed = caprl("card", dataset / "dataset", "--license", "cc-by-4.0")
    assert printed.stdout.startswith("---\nlicense: cc-by-4.0\n")
    assert caprl("card", dataset / "dataset", "--license", "cc-by-4.0", "--write").returncode == 0
    assert (dataset / "dataset" / "README.md").read_text() == printed.stdout
    stated = caprl("card", dataset / "dataset", "--source-licence", "folder=CC0").stdout
    assert "| `folder` | folder | `CC0` |" in stated and "| `folder` | folder | not stated |" in printed.stdout


def by_name(done: subprocess.CompletedProcess[str]) -> dict[str, dict[str, str]]:
    return {finding["name"]: finding for finding in json.loads(done.stdout)}


def test_the_doctor_looks_at_this_machine() -> None:
    found = by_name(caprl("doctor", "--json"))
    assert {"python", "gpu", "torch", "vllm", "transformers", "prefect", "scratch disk"} <= set(found)
    assert found["python"]["state"] == found["torch"]["state"] == "ok"


def test_the_doctor_finds_a_working_bucket_sound_and_leaves_nothing_there(
    dataset: Path, tmp_path: Path, bucket: str, s3_endpoint: str
) -> None:
    recipe = written(recipe_for(dataset / "pictures", f"s3://{bucket}/out"), tmp_path / "recipe.yaml")
    done = caprl("doctor", recipe, "--json")
    found = by_name(done)
    for name in ("output", "output rights", "conditional create", "multipart upload", "output deletes"):
        assert found[name]["state"] == "ok", found[name]
    assert found["source folder"]["found"].startswith("4 of the first 5 images")  # broken.jpg comes first
    assert found["dataset"]["found"] == "none planned yet"
    assert done.returncode == 0, done.stdout
    assert "Contents" not in boto3.client("s3", endpoint_url=s3_endpoint).list_objects_v2(Bucket=bucket)


def test_the_doctor_names_everything_that_is_missing_and_ends_with_1(tmp_path: Path, s3_endpoint: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    recipe = recipe_for(
        tmp_path / "no-pictures",
        "s3://no-such-bucket/out",
        execution__engine={"kind": "openai", "urls": [f"http://127.0.0.1:{port}/v1"]},
        execution__runner__spool_dir=str(tmp_path / "no-folder"),
    )
    done = caprl("doctor", written(recipe, tmp_path / "recipe.yaml"), "--json")
    found = by_name(done)
    assert done.returncode == 1
    for name in ("source folder", "engine", "output", "scratch disk"):
        assert found[name]["state"] == "missing" and found[name]["remedy"], found[name]
    assert "the bucket does not exist" in found["output"]["found"]


def test_the_doctor_knows_a_dataset_of_another_recipe(dataset: Path, tmp_path: Path) -> None:
    other = recipe_for(dataset / "pictures", str(dataset / "dataset"), prompt__text="Something else.")
    done = caprl("doctor", written(other, tmp_path / "recipe.yaml"))
    assert done.returncode == 1 and "of another recipe" in done.stdout
