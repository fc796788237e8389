"""Samples are nested and exact, the held-out side is split by image, and both are the same in every export."""

from pathlib import Path

import orjson
import pytest

from caprl_core.errors import BadInputError
from caprl_core.export.jsonl import export_jsonl
from caprl_core.export.subsets import Division, parse_count, sample_name
from caprl_core.shards.dataset import Dataset
from support.made_datasets import made


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("made")
    return made(folder, str(folder / "dataset"), pictures=80)


def written(dataset: Dataset, folder: Path, **division: object) -> dict[str, list[dict]]:
    """Subset -> its rows."""
    report = export_jsonl(dataset, str(folder / "out.jsonl"), form="full", division=Division(**division))  # type: ignore[arg-type]
    found = {}
    for item in report.files:
        name = item.name.removeprefix("out").removesuffix(".jsonl").removeprefix("-")
        found[name] = [orjson.loads(line) for line in (folder / item.name).read_bytes().splitlines()]
        assert len(found[name]) == item.rows
    return found


def keys(rows: list[dict]) -> list[str]:
    return [row["key"] for row in rows]


def test_samples_are_exact_nested_and_in_plan_order(dataset: Dataset, tmp_path: Path) -> None:
    whole = keys(written(dataset, tmp_path / "whole")[""])
    found = written(dataset, tmp_path / "samples", samples=(60, 10, 30))
    assert [len(found[name]) for name in ("10", "30", "60")] == [10, 30, 60]
    for smaller, larger in (("10", "30"), ("30", "60")):
        assert set(keys(found[smaller])) < set(keys(found[larger]))
    for rows in found.values():
        assert keys(rows) == [key for key in whole if key in set(keys(rows))]


def test_a_sample_does_not_depend_on_what_else_is_drawn_but_on_the_seed(dataset: Dataset, tmp_path: Path) -> None:
    alone = written(dataset, tmp_path / "a", samples=(30,))["30"]
    assert alone == written(dataset, tmp_path / "b", samples=(5, 30, 70))["30"]
    assert alone != written(dataset, tmp_path / "c", samples=(30,), seed=1)["30"]


def test_no_picture_is_on_both_sides(tmp_path: Path) -> None:
    """Every picture twice, under two names."""
    from PIL import Image

    (tmp_path / "pictures").mkdir()
    for number in range(40):
        for copy in ("a", "b"):
            Image.new("RGB", (56, 56), (number * 6, 90, 120)).save(tmp_path / "pictures" / f"{number:02d}{copy}.png")
    (tmp_path / "pictures" / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no picture at all")
    dataset = made(tmp_path, str(tmp_path / "dataset"))
    found = written(dataset, tmp_path / "out", validation=0.25)
    sides = {name: {row["image_sha256"] for row in rows} for name, rows in found.items()}
    assert set(sides) == {"train", "validation"} and not sides["train"] & sides["validation"]
    assert len(found["train"]) + len(found["validation"]) == 80
    assert len(found["validation"]) == 2 * len(sides["validation"]) and 2 <= len(sides["validation"]) <= 20


def test_samples_leave_the_held_out_side_alone(dataset: Dataset, tmp_path: Path) -> None:
    split = written(dataset, tmp_path / "a", validation=0.2)
    both = written(dataset, tmp_path / "b", validation=0.2, samples=(10, 40))
    assert both["validation"] == split["validation"]
    assert set(keys(both["40"])) <= set(keys(split["train"]))


def test_more_rows_than_there_are_cannot_be_drawn(dataset: Dataset, tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="there are 80 rows to draw from"):
        written(dataset, tmp_path, samples=(81,))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "division", [{"validation": 1.0}, {"validation": -0.1}, {"samples": (0,)}, {"samples": (5, 5)}]
)
def test_divisions_that_cannot_be_meant_are_refused(division: dict) -> None:
    with pytest.raises(BadInputError):
        Division(**division)


@pytest.mark.parametrize(
    ("text", "count"), [("500k", 500_000), ("1m", 1_000_000), ("1.5M", 1_500_000), ("1234", 1234), ("10_000", 10_000)]
)
def test_counts_are_read_as_people_write_them(text: str, count: int) -> None:
    assert parse_count(text) == count and parse_count(sample_name(count)) == count


@pytest.mark.parametrize("text", ["", "k", "-5", "0", "1.2345k5", "many", "1e400", "nan", "0.5"])
def test_other_counts_are_refused(text: str) -> None:
    with pytest.raises(BadInputError, match="a number of rows"):
        parse_count(text)
