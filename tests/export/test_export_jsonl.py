"""A dataset leaves as JSONL whole, in plan order, in the shape asked for, or not at all."""

import hashlib
import json
from pathlib import Path

import boto3
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from caprl_core.errors import BadInputError, IncompleteError, StoreError
from caprl_core.export.jsonl import export_jsonl
from caprl_core.export.subsets import Division
from caprl_core.shards.dataset import Dataset
from caprl_core.storage.commit import list_units, read_commits
from support.drawn_dataset import recipe_for
from support.made_datasets import annotate, made


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("made")
    return made(folder, str(folder / "dataset"))


def planned_keys(dataset: Dataset) -> list[str]:
    return [key for shard in range(dataset.plan.shards) for key in dataset.plan.shard_keys(shard)]


def rows_of(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_rows_leave_in_plan_order_and_only_rejected_samples_are_absent(dataset: Dataset, tmp_path: Path) -> None:
    report = export_jsonl(dataset, str(tmp_path / "out.jsonl"))
    keys = [row["key"] for row in rows_of(tmp_path / "out.jsonl")]
    assert report.rows == len(keys) == 50 and report.rejected == 1 and report.pending == 0
    assert keys == [key for key in planned_keys(dataset) if key in set(keys)]


def test_the_full_form_is_the_committed_bytes(dataset: Dataset, tmp_path: Path) -> None:
    export_jsonl(dataset, str(tmp_path / "out.jsonl"), form="full")
    committed = b"".join(dataset.store.get(f"shards/drawn-{shard:06d}.jsonl") for shard in range(3))
    assert (tmp_path / "out.jsonl").read_bytes() == committed


def test_the_minimal_form_is_image_and_caption(dataset: Dataset, tmp_path: Path) -> None:
    export_jsonl(dataset, str(tmp_path / "out.jsonl"), form="minimal")
    rows = rows_of(tmp_path / "out.jsonl")
    assert all(list(row) == ["image", "caption"] for row in rows)
    assert {row["image"] for row in rows} >= {"picture-0000.png", "picture-0001.jpg"}


def test_chosen_fields_come_in_the_order_asked_for(dataset: Dataset, tmp_path: Path) -> None:
    export_jsonl(dataset, str(tmp_path / "out.jsonl"), fields=["caption", "image_width", "key"])
    assert list(rows_of(tmp_path / "out.jsonl")[0]) == ["caption", "image_width", "key"]


def test_rows_can_be_chosen_by_attempt(dataset: Dataset, tmp_path: Path) -> None:
    counts = {}
    for attempt in (1, 2, 3):
        path = tmp_path / f"{attempt}.jsonl"
        counts[attempt] = export_jsonl(dataset, str(path), division=Division(attempt=attempt)).rows
        assert {row["attempt"] for row in rows_of(path)} <= {attempt}
    assert counts[1] > 0 and counts[2] > 0 and counts[3] == 0 and sum(counts.values()) == 50


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(files=st.integers(1, 60), attempt=st.sampled_from([None, 1, 2]))
def test_several_files_joined_are_the_one_file(
    dataset: Dataset, tmp_path: Path, files: int, attempt: int | None
) -> None:
    whole, parts = tmp_path / "whole.jsonl", tmp_path / "parts.jsonl"
    export_jsonl(dataset, str(whole), division=Division(attempt=attempt))
    report = export_jsonl(dataset, str(parts), files=files, division=Division(attempt=attempt))
    assert b"".join((tmp_path / item.name).read_bytes() for item in report.files) == whole.read_bytes()
    sizes = [item.rows for item in report.files]
    assert len(sizes) == files and max(sizes) - min(sizes) <= 1
    for item in report.files:
        (tmp_path / item.name).unlink()


def test_the_manifest_describes_the_files_and_the_commits_they_come_from(dataset: Dataset, tmp_path: Path) -> None:
    report = export_jsonl(dataset, str(tmp_path / "out.jsonl"), files=2)
    manifest = json.loads((tmp_path / report.manifest).read_text())
    for item in manifest["files"]:
        data = (tmp_path / item["name"]).read_bytes()
        assert (len(data), data.count(b"\n")) == (item["size"], item["rows"])
        assert hashlib.sha256(data).hexdigest() == item["sha256"]
    assert manifest["fingerprint"] == dataset.record.fingerprint
    records = read_commits(dataset.store, list_units(dataset.store))
    assert manifest["commits"] == {str(record.unit): record.object("jsonl").sha256 for record in records}


def test_two_exports_are_the_same_bytes(dataset: Dataset, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        export_jsonl(dataset, str(tmp_path / name / "out.jsonl"), threads=1 if name == "a" else 7)
    for name in ("out.jsonl", "out.jsonl.manifest.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_an_export_to_s3_is_the_local_one(dataset: Dataset, tmp_path: Path, bucket: str, s3_endpoint: str) -> None:
    export_jsonl(dataset, str(tmp_path / "out.jsonl"))
    export_jsonl(dataset, f"s3://{bucket}/exports/out.jsonl")
    client = boto3.client("s3", endpoint_url=s3_endpoint)
    keys = {item["Key"] for item in client.list_objects_v2(Bucket=bucket)["Contents"]}
    assert keys == {"exports/out.jsonl", "exports/out.jsonl.manifest.json"}
    assert (
        client.get_object(Bucket=bucket, Key="exports/out.jsonl")["Body"].read()
        == (tmp_path / "out.jsonl").read_bytes()
    )


def test_the_newest_revision_of_a_shard_is_exported(tmp_path: Path) -> None:
    dataset = made(tmp_path, str(tmp_path / "dataset"), checks__max_attempts=1)
    before = export_jsonl(dataset, str(tmp_path / "before.jsonl"))
    assert before.rejected > 1
    from caprl_core.shards.previous import take_over
    from caprl_core.storage.commit import read_commit
    from caprl_core.storage.layout import Unit
    from support.drawn_dataset import lane_for
    from support.echo_engine import EchoEngine

    recipe = recipe_for(tmp_path / "pictures", str(tmp_path / "dataset"), checks__max_attempts=1)
    with lane_for(recipe, dataset, EchoEngine(16)) as lane:
        kept = take_over(dataset.store, read_commit(dataset.store, Unit(0, 0)), lambda _: True, tmp_path)
        lane.run(Unit(0, 1), previous=kept)
    after = export_jsonl(dataset, str(tmp_path / "after.jsonl"))
    assert after.rows > before.rows and after.rows + after.rejected == 51
    keys = [row["key"] for row in rows_of(tmp_path / "after.jsonl")]
    assert keys == [key for key in planned_keys(dataset) if key in set(keys)]


def test_an_unfinished_dataset_is_refused_unless_partial_is_asked_for(tmp_path: Path) -> None:
    dataset = made(tmp_path, str(tmp_path / "dataset"), shards=1)
    with pytest.raises(IncompleteError, match="31 of 51 samples are still pending"):
        export_jsonl(dataset, str(tmp_path / "out.jsonl"))
    assert not (tmp_path / "out.jsonl").exists()
    report = export_jsonl(dataset, str(tmp_path / "out.jsonl"), partial=True)
    assert report.pending == 31 and report.rows + report.rejected == 20
    annotate(recipe_for(tmp_path / "pictures", str(tmp_path / "dataset")), dataset)
    assert export_jsonl(dataset, str(tmp_path / "out.jsonl")).rows == 50


def test_a_changed_shard_stops_the_export_and_leaves_the_old_one_in_place(tmp_path: Path) -> None:
    dataset = made(tmp_path, str(tmp_path / "dataset"))
    export_jsonl(dataset, str(tmp_path / "out" / "out.jsonl"))
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    shard = tmp_path / "dataset" / "shards" / "drawn-000002.jsonl"
    data = shard.read_bytes()
    shard.write_bytes(data.replace(b"drawn picture", b"drawn pigture", 1))
    with pytest.raises(StoreError, match="drawn-000002.jsonl does not have the sha256"):
        export_jsonl(dataset, str(tmp_path / "out" / "out.jsonl"))
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fields": ["key", "captoin"]}, "no column 'captoin'"),
        ({"fields": ["key", "key"]}, "named twice"),
        ({"fields": []}, "at least one field"),
        ({"files": 0}, "must be 1 or more"),
    ],
)
def test_options_the_dataset_cannot_serve_are_refused(
    dataset: Dataset, tmp_path: Path, options: dict, message: str
) -> None:
    with pytest.raises(BadInputError, match=message):
        export_jsonl(dataset, str(tmp_path / "out.jsonl"), **options)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_no_file_to_export_to(dataset: Dataset, tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="is a folder"):
        export_jsonl(dataset, str(tmp_path))
    with pytest.raises(BadInputError, match="name the file below the bucket"):
        export_jsonl(dataset, "s3://only-a-bucket")
