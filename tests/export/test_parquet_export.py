"""A dataset leaves as parquet with its own types and every caption as it was."""

from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from caprl_core.captioning.stage import CaptionStage
from caprl_core.data.row import row_schema
from caprl_core.errors import BadInputError
from caprl_core.export import parquet
from caprl_core.export.forms import STANDARD_FIELDS
from caprl_core.export.parquet import export_parquet, schema_of
from caprl_core.export.parquet_files import Group
from caprl_core.export.subsets import Division
from caprl_core.shards.dataset import Dataset
from support.answered_dataset import committed as committed_rows
from support.hostile_captions import HOSTILE, captioned


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("hostile")
    return captioned(folder, str(folder / "dataset"), [*HOSTILE] * 6)


def committed(dataset: Dataset) -> list[dict[str, Any]]:
    keys = sorted(item.key for item in dataset.store.list("shards") if item.key.endswith(".jsonl"))
    return [orjson.loads(line) for key in keys for line in dataset.store.get(key).splitlines()]


def exported(dataset: Dataset, out: str, **options: Any) -> Any:
    return export_parquet(dataset, out, schema_of(dataset, CaptionStage.fields), **options)


def test_every_column_of_every_row_comes_back_with_its_type(dataset: Dataset, tmp_path: Path) -> None:
    report = exported(dataset, str(tmp_path / "out.parquet"))
    table = pq.read_table(tmp_path / "out.parquet")
    assert table.to_pylist() == committed(dataset) and report.rows == 48
    wanted = row_schema(CaptionStage.fields)
    assert table.schema.names == wanted.names and table.schema.types == wanted.types


@pytest.mark.parametrize(
    ("options", "names"),
    [({"form": "standard"}, STANDARD_FIELDS), ({"fields": ["caption", "image_notes", "key"]}, None)],
)
def test_columns_can_be_chosen(dataset: Dataset, tmp_path: Path, options: dict, names: Any) -> None:
    exported(dataset, str(tmp_path / "out.parquet"), **options)
    wanted = list(names or options["fields"])
    rows = [{name: row[name] for name in wanted} for row in committed(dataset)]
    assert pq.read_table(tmp_path / "out.parquet").to_pylist() == rows
    with pytest.raises(BadInputError, match="no column 'captoin'"):
        exported(dataset, str(tmp_path / "x.parquet"), fields=["captoin"])


def test_several_files_joined_are_the_one_and_groups_are_bounded(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "GROUP", Group(rows=7, size=50_000))
    report = exported(dataset, str(tmp_path / "out.parquet"), files=5)
    tables = [pq.read_table(tmp_path / item.name) for item in report.files]
    assert [len(table) for table in tables] == [item.rows for item in report.files] == [9, 10, 9, 10, 10]
    assert pa.concat_tables(tables).to_pylist() == committed(dataset)
    meta = pq.ParquetFile(tmp_path / report.files[1].name).metadata
    assert meta.num_row_groups > 1 and all(meta.row_group(n).num_rows <= 7 for n in range(meta.num_row_groups))


def test_empty_files_have_the_columns(dataset: Dataset, tmp_path: Path) -> None:
    report = exported(dataset, str(tmp_path / "out.parquet"), division=Division(attempt=9), files=2)
    for item in report.files:
        table = pq.read_table(tmp_path / item.name)
        assert len(table) == 0 and table.schema.types == row_schema(CaptionStage.fields).types


def test_subsets_are_files_of_their_own(dataset: Dataset, tmp_path: Path) -> None:
    exported(dataset, str(tmp_path / "out.parquet"), division=Division(samples=(10, 20)))
    small, large = (pq.read_table(tmp_path / f"out-{count}.parquet")["key"].to_pylist() for count in (10, 20))
    assert len(small) == 10 and len(large) == 20 and set(small) < set(large)


def test_on_s3_it_is_the_local_one(dataset: Dataset, tmp_path: Path, bucket: str, s3_client: Any) -> None:
    exported(dataset, str(tmp_path / "out.parquet"))
    exported(dataset, f"s3://{bucket}/x/out.parquet")
    data = s3_client.get_object(Bucket=bucket, Key="x/out.parquet")["Body"].read()
    assert data == (tmp_path / "out.parquet").read_bytes()


def test_rows_of_other_stages_leave_too_unless_a_column_has_no_one_type(tmp_path: Path) -> None:
    """Rows of a stage whose own columns nobody declares here."""
    rows = [{"key": f"k{number}", "attempt": 1, "found": {"word": "x", "places": [number]}} for number in range(5)]
    dataset = committed_rows(str(tmp_path / "a"), "length", [rows])
    exported(dataset, str(tmp_path / "out.parquet"))
    assert pq.read_table(tmp_path / "out.parquet").to_pylist() == rows
    mixed = [*rows, {"key": "k9", "attempt": 1, "found": "a text"}]
    with pytest.raises(BadInputError, match="has no one type"):
        exported(committed_rows(str(tmp_path / "b"), "length", [mixed]), str(tmp_path / "x.parquet"))
    assert not (tmp_path / "x.parquet").exists()
