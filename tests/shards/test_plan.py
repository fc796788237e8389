"""The plan: deterministic, complete, with keys that are unique and stable."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from caprl_core.errors import BadInputError, IdentityMismatchError
from caprl_core.shards.dataset import create_dataset, open_dataset
from caprl_core.shards.plan import write_plan
from caprl_core.shards.plan_file import Plan, PlanReport
from caprl_core.storage.layout import PLAN_REPORT
from caprl_core.storage.store import Store
from support.drawn_dataset import draw_pictures, planned, recipe_for


def table(path: Path, images: list[Any], name: str = "table") -> dict[str, Any]:
    path.write_text("".join(json.dumps({"image": image, "caption": f"about {image}"}) + "\n" for image in images))
    return {"name": name, "kind": "table", "uri": str(path), "image_field": "image", "caption_field": "caption"}


def plan(tmp_path: Path, sources: list[dict[str, Any]], **changes: Any) -> tuple[PlanReport, Plan]:
    recipe = recipe_for(tmp_path, str(tmp_path / "out"), sources=sources, **changes)
    store = Store(recipe.execution.output)
    report = write_plan(recipe, store)
    return report, Plan(store, report.key)


def test_samples_are_dealt_to_shards_in_source_order(tmp_path: Path) -> None:
    names = [f"folder/{n}.jpg" for n in range(45)]
    report, made = plan(tmp_path, [table(tmp_path / "a.jsonl", names)])
    assert (report.samples, report.shards, made.shards) == (45, 3, 3)
    samples = [sample for shard in range(3) for sample in made.shard(shard)]
    assert [sample.image for sample in samples] == names
    assert [(sample.shard, sample.index) for sample in samples] == [(n // 20, n % 20) for n in range(45)]
    assert samples[7].original_caption == "about folder/7.jpg"


def test_the_same_sources_give_the_same_bytes(tmp_path: Path) -> None:
    source = table(tmp_path / "a.jsonl", [f"{n}.jpg" for n in range(100)])
    first, _ = plan(tmp_path, [source])
    second, _ = plan(tmp_path, [source])
    assert first == second


def test_keys_do_not_depend_on_the_order_of_the_records(tmp_path: Path) -> None:
    names = [f"{n}.jpg" for n in range(50)]
    _, forward = plan(tmp_path, [table(tmp_path / "a.jsonl", names)])
    keys = {s.image: s.key for shard in range(3) for s in forward.shard(shard)}
    _, backward = plan(tmp_path, [table(tmp_path / "a.jsonl", names[::-1])])
    assert {s.image: s.key for shard in range(3) for s in backward.shard(shard)} == keys


def test_the_same_path_in_two_sources_has_two_keys_and_is_no_duplicate(tmp_path: Path) -> None:
    one, two = table(tmp_path / "a.jsonl", ["1.jpg"], "one"), table(tmp_path / "b.jsonl", ["1.jpg"], "two")
    report, made = plan(tmp_path, [one, two])
    assert report.duplicates == 0
    assert len({sample.key for sample in made.shard(0)}) == 2


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25, deadline=None)
@given(
    names=st.lists(st.text(st.characters(exclude_characters="\0"), min_size=1, max_size=30), min_size=1, max_size=60)
)
def test_any_names_give_unique_keys_that_webdataset_reads_whole(tmp_path: Path, names: list[str]) -> None:
    _, made = plan(tmp_path, [table(tmp_path / "a.jsonl", names)], dataset__shard_samples=1000)
    samples = made.shard(0)
    assert len(samples) == len(names)
    assert len({sample.key for sample in samples}) == len(names)
    assert all(re.fullmatch(r"[a-z0-9_-]+", sample.key) for sample in samples)


def test_duplicates_by_path_are_reported_and_by_choice_dropped(tmp_path: Path) -> None:
    source = table(tmp_path / "a.jsonl", ["1.jpg", "2.jpg", "1.jpg", "3.jpg", "1.jpg"])
    report, made = plan(tmp_path, [source])
    assert (report.samples, report.duplicates, report.dropped) == (5, 2, 0)
    first = made.shard(0)[0].key
    assert report.duplicate_examples == ((f"{first}-1", first), (f"{first}-2", first))
    report, made = plan(tmp_path, [source], dataset__deduplicate={"by": "path", "drop": True})
    assert (report.samples, report.duplicates, report.dropped) == (3, 2, 2)
    assert [sample.image for sample in made.shard(0)] == ["1.jpg", "2.jpg", "3.jpg"]


def test_duplicates_by_content_are_found_across_names_and_sources(tmp_path: Path) -> None:
    images = draw_pictures(tmp_path / "images", 4)
    (images / "copy.png").write_bytes((images / "picture-0000.png").read_bytes())
    one = {"name": "one", "kind": "folder", "uri": str(images)}
    two = {"name": "two", "kind": "folder", "uri": str(images)}
    report, made = plan(tmp_path, [one, two], dataset__deduplicate={"by": "sha256", "drop": True})
    assert (report.records, report.samples, report.duplicates) == ({"one": 5, "two": 5}, 4, 6)
    assert {sample.source for sample in made.shard(0)} == {"one"}


def test_unreadable_images_are_no_duplicates_of_each_other(tmp_path: Path) -> None:
    source = table(tmp_path / "a.jsonl", ["gone-1.jpg", "gone-2.jpg"]) | {"roots": {"": str(tmp_path)}}
    report, _ = plan(tmp_path, [source], dataset__deduplicate={"by": "sha256", "drop": True})
    assert (report.samples, report.duplicates) == (2, 0)


def test_malformed_records_are_planned_with_their_problem(tmp_path: Path) -> None:
    report, made = plan(tmp_path, [table(tmp_path / "a.jsonl", ["1.jpg", None, 7])])
    assert (report.samples, report.problems) == (3, 2)
    assert [sample.problem is None for sample in made.shard(0)] == [True, False, False]


def test_an_empty_source_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"a\.jsonl.*empty"):
        plan(tmp_path, [table(tmp_path / "a.jsonl", [])])


def test_a_source_that_is_not_there_is_told_with_what_to_do(tmp_path: Path) -> None:
    source = table(tmp_path / "a.jsonl", ["a.jpg"])
    (tmp_path / "a.jsonl").unlink()
    with pytest.raises(
        BadInputError, match=r"source table: .*a\.jsonl does not exist; put it there, or change its uri"
    ):
        plan(tmp_path, [source])


def test_a_dataset_refuses_another_recipe_and_names_the_field(tmp_path: Path) -> None:
    images = draw_pictures(tmp_path / "images", 3)
    planned(recipe_for(images, str(tmp_path / "out")))
    store = Store(str(tmp_path / "out"))
    with pytest.raises(IdentityMismatchError, match=r"sampling.temperature: dataset has 1.0, recipe has 0.5"):
        open_dataset(store, recipe_for(images, str(tmp_path / "out"), sampling__temperature=0.5))
    with pytest.raises(IdentityMismatchError, match=r"prompt.text"):
        open_dataset(store, recipe_for(images, str(tmp_path / "out"), prompt__text="Say more."))
    changed = recipe_for(images, str(tmp_path / "out"), execution__engine__concurrency=3, execution__cost__gpus=8)
    assert open_dataset(store, changed).record.samples == 3


def test_changed_sources_are_refused_when_planned_again(tmp_path: Path) -> None:
    images = draw_pictures(tmp_path / "images", 3)
    recipe = recipe_for(images, str(tmp_path / "out"))
    planned(recipe)
    planned(recipe)
    draw_pictures(images, 4)
    store = Store(recipe.execution.output)
    with pytest.raises(IdentityMismatchError, match="3 samples then, 4 now"):
        create_dataset(recipe, store, write_plan(recipe, store))


def test_the_plan_of_changed_sources_does_not_replace_the_report(tmp_path: Path) -> None:
    images = draw_pictures(tmp_path / "images", 3)
    recipe = recipe_for(images, str(tmp_path / "out"))
    dataset = planned(recipe)
    draw_pictures(images, 4)
    with pytest.raises(IdentityMismatchError):
        create_dataset(recipe, dataset.store, write_plan(recipe, dataset.store))
    assert json.loads(dataset.store.get(PLAN_REPORT))["digest"] == dataset.record.plan_sha256


@pytest.mark.parametrize("by", ["path", "sha256"])
def test_malformed_records_are_no_duplicates_of_each_other(tmp_path: Path, by: str) -> None:
    images = draw_pictures(tmp_path / "images", 1)
    source = table(images / "a.jsonl", ["picture-0000.png", None, 7, None, "picture-0000.png"])
    report, made = plan(tmp_path, [source], dataset__deduplicate={"by": by, "drop": True})
    assert (report.samples, report.duplicates, report.dropped, report.problems) == (4, 1, 1, 3)
    assert [sample.problem is None for sample in made.shard(0)] == [True, False, False, False]
