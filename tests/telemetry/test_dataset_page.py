"""The report page of a dataset: true to its commits, and no part of them."""

from pathlib import Path

from caprl_core.recipe.models import CostExecution
from caprl_core.shards.verify import verify
from caprl_core.storage.layout import Unit
from caprl_core.telemetry.dataset_page import PAGE, write_dataset_page
from support.drawn_dataset import planned, recipe_for
from support.echo_engine import EchoEngine
from support.page_reader import read_harmless
from support.watched_lane import work_all


def test_the_page_says_where_the_dataset_stands(images: Path, tmp_path: Path) -> None:
    for path in sorted(images.iterdir())[:5]:
        path.write_bytes(b"no picture at all")
    for path in sorted(images.iterdir())[40:60]:
        path.write_bytes(b"no picture either")
    recipe = recipe_for(images, str(tmp_path / "out"), execution__gate={"min_samples": 20, "max_share": {"*": 0.5}})
    dataset = planned(recipe)
    work_all(recipe, dataset, EchoEngine, [Unit(0, 0), Unit(2, 0)])
    address = write_dataset_page(dataset, CostExecution(gpus=1, gpu_hour_price=2.0, currency="EUR"))
    assert address == f"{tmp_path}/out/{PAGE}"
    said = read_harmless(dataset.store.get(PAGE)).said()
    assert "image_corrupt 5 25.0 %" in said
    assert "In quarantine Shards 2." in said
    for row in ("planned 60 100 %", "done 20 33.3 %", "rows 15 25.0 %", "rejected 5 8.3 %", "pending 40 66.7 %"):
        assert row in said
    assert "cost to come, EUR" in said
    report = verify(dataset, deep=True)
    assert report.sound, report.problems


def test_an_empty_dataset_has_a_page_too(images: Path, tmp_path: Path) -> None:
    dataset = planned(recipe_for(images, str(tmp_path / "out")))
    write_dataset_page(dataset, CostExecution())
    assert "No sample was rejected." in read_harmless(dataset.store.get(PAGE)).said()
