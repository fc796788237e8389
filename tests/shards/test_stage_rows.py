"""The rows of one of our datasets as a source: every committed row with its key, nothing of an unfinished dataset."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pytest

from caprl_core.data.roots import ImageReader
from caprl_core.data.sample import PlannedSample, PreparedImage, SourceRecord
from caprl_core.engines.none import NoEngine
from caprl_core.engines.protocol import Reply, Request
from caprl_core.errors import BadInputError, IdentityMismatchError, StoreError
from caprl_core.recipe.models import SourceRecipe, StageRecipe, StorageExecution
from caprl_core.shards.dataset import Dataset, create_dataset
from caprl_core.shards.lane import Lane
from caprl_core.shards.plan import write_plan
from caprl_core.shards.progress import unfinished_units
from caprl_core.shards.revise import known_reasons, retry_rejected, unfinished_revisions
from caprl_core.shards.stage import ImageUse, Outcome, Row
from caprl_core.shards.stage_rows import open_any_source
from caprl_core.storage.commit import read_commit
from caprl_core.storage.layout import Unit
from caprl_core.storage.store import Store
from support.drawn_dataset import draw_pictures, lane_for, planned, recipe_for
from support.echo_engine import EchoEngine, caption_of
from support.made_datasets import made


def source(uri: str, **fields: Any) -> SourceRecipe:
    return SourceRecipe.model_validate({"name": "before", "kind": "stage_rows", "uri": uri, **fields})


def read(uri: str, **fields: Any) -> list[SourceRecord]:
    return list(open_any_source(source(uri, **fields), StorageExecution()).records())


def next_stage(tmp_path: Path, *sources: SourceRecipe, **dataset: Any) -> StageRecipe:
    return StageRecipe.model_validate(
        {
            "name": "next",
            "sources": [one.model_dump() for one in sources],
            "dataset": {"shard_samples": 20, "deduplicate": {"by": "none"}} | dataset,
            "execution": {"output": str(tmp_path / "next")},
        }
    )


def lines_of(dataset: Dataset, unit: Unit) -> list[bytes]:
    return dataset.store.get(read_commit(dataset.store, unit).object("jsonl").final_key).splitlines()


class PassOn:
    """A stage that reads no image: its rows say where the images are, as they were told."""

    name = "pass-on"
    fields = pa.schema([pa.field("passed", pa.int64())])
    max_attempts = 1
    prompt_id = ""
    image_use: ImageUse = "unread"
    asks = False
    leads = 0
    tolerates_failures = False

    def requests(self, sample: PlannedSample, image: PreparedImage | None, attempt: int) -> Sequence[Request]:
        return ()

    def outcome(self, sample: PlannedSample, replies: Sequence[Reply], attempt: int) -> Outcome:
        return Row({"passed": attempt})

    def text(self, fields: Mapping[str, Any]) -> str:
        return ""


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """51 samples of which one is rejected, in three shards."""
    folder = tmp_path_factory.mktemp("made")
    return made(folder, str(folder / "dataset"))


def test_every_row_is_a_record_with_its_key_and_the_whole_row(dataset: Dataset) -> None:
    records = read(dataset.store.uri, upstream=dataset.record.fingerprint)
    lines = [(shard, line) for shard in range(3) for line in lines_of(dataset, Unit(shard, 0))]
    assert len(records) == 50
    for ordinal, (record, (shard, line)) in enumerate(zip(records, lines, strict=True)):
        row = orjson.loads(line)
        assert (record.payload or "").encode() == line
        assert (record.ordinal, record.key, record.problem) == (ordinal, row["key"], None)
        assert (record.record_id, record.caption) == (row["record_id"], row["original_caption"])
        assert record.image == f"drawn-{shard:06d}.tar#{row['image_file']}"


async def test_their_images_are_read_from_the_tars(dataset: Dataset, tmp_path: Path) -> None:
    for fields in ({}, {"roots": {"": f"{dataset.store.uri}/shards"}}):
        recipe = next_stage(tmp_path, source(dataset.store.uri, **fields))
        store = Store(recipe.execution.output)
        plan = create_dataset(recipe, store, write_plan(recipe, store), "next").plan
        reader = ImageReader(recipe)
        try:
            for sample in plan.shard(2):
                row = json.loads(sample.payload or "")
                original = Path(dataset.store.uri).parent / "pictures" / row["image"]
                assert await reader.read(sample) == original.read_bytes()
        finally:
            reader.close()


def test_the_plan_keeps_keys_and_payloads(dataset: Dataset, tmp_path: Path) -> None:
    recipe = next_stage(tmp_path, source(dataset.store.uri, limit=30), shard_samples=25)
    store = Store(recipe.execution.output)
    plan = create_dataset(recipe, store, write_plan(recipe, store), "next").plan
    samples = [sample for shard in range(plan.shards) for sample in plan.shard(shard)]
    records = read(dataset.store.uri)[:30]
    assert [(s.key, s.payload, s.image, s.source) for s in samples] == [
        (record.key, record.payload, record.image, "before") for record in records
    ]
    assert plan.shard_keys(1) == [record.key for record in records[25:]]


def test_the_same_rows_twice_in_one_plan_are_refused(dataset: Dataset, tmp_path: Path) -> None:
    twice = next_stage(tmp_path, source(dataset.store.uri), source(dataset.store.uri, name="again"))
    with pytest.raises(BadInputError, match="the same key"):
        write_plan(twice, Store(twice.execution.output))


def test_rows_without_a_kept_image_keep_the_reference_of_the_stage_before(dataset: Dataset, tmp_path: Path) -> None:
    recipe = next_stage(tmp_path, source(dataset.store.uri))
    store = Store(recipe.execution.output)
    unread = create_dataset(recipe, store, write_plan(recipe, store), "pass-on")
    with Lane(recipe, unread, PassOn(), lambda _: NoEngine()) as lane:
        for unit in unfinished_units(unread):
            lane.run(unit)
    records = read(unread.store.uri)
    assert [json.loads(record.payload or "")["passed"] for record in records] == [1] * 50
    assert [record.image for record in records] == [record.image for record in read(dataset.store.uri)]
    assert [record.key for record in records] == [record.key for record in read(dataset.store.uri)]


def test_the_newest_revision_is_read(tmp_path: Path) -> None:
    images = draw_pictures(tmp_path / "pictures", 30)
    recipe = recipe_for(images, str(tmp_path / "out"), execution__gate__max_share={"*": 1.0})
    dataset = planned(recipe)
    healed = False

    def answer(request: Request) -> str:
        return "" if not healed and request.images[0].sha256 < "4" else caption_of(request)

    with lane_for(recipe, dataset, EchoEngine(answer=answer)) as lane:
        for unit in unfinished_units(dataset):
            lane.run(unit)
        before = read(dataset.store.uri)
        healed = True
        units = list(unfinished_revisions(dataset, known_reasons(["empty"])))
        for unit in units:
            retry_rejected(lane, dataset, unit, known_reasons(["empty"]))
    after = read(dataset.store.uri)
    assert len(before) < len(after) == 30
    revised = {f"drawn-{unit.shard:06d}.r1.tar" for unit in units}
    assert revised
    assert revised <= {record.image.partition("#")[0] for record in after}
    assert [r.key for r in after] == [s.key for shard in range(2) for s in dataset.plan.shard(shard)]


def test_an_unfinished_dataset_is_refused_with_what_to_run(tmp_path: Path) -> None:
    dataset = made(tmp_path, str(tmp_path / "dataset"), shards=2)
    with pytest.raises(BadInputError, match=r"'drawn' at .*: 11 of 51 samples are pending; finish .* `caprl annot"):
        read(dataset.store.uri)


def test_a_shard_that_is_not_published_yet_is_refused(tmp_path: Path) -> None:
    dataset = made(tmp_path, str(tmp_path / "dataset"))
    tar = read_commit(dataset.store, Unit(1, 0)).object("tar")
    dataset.store.copy(tar.final_key, tar.attempt_key)
    dataset.store.delete([tar.final_key])
    with pytest.raises(BadInputError, match="1 shards are committed but not published; run `caprl annotate` once more"):
        read(dataset.store.uri)


def test_another_dataset_than_the_one_meant_is_refused(dataset: Dataset) -> None:
    with pytest.raises(BadInputError, match=f"'drawn' with fingerprint {dataset.record.fingerprint[:12]}….*0123"):
        read(dataset.store.uri, upstream="0123" * 16)


def test_a_place_without_a_dataset_is_refused_and_not_made(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="source before: no dataset at .*missing: there is no such folder"):
        read(str(tmp_path / "missing"))
    assert not (tmp_path / "missing").exists()
    with pytest.raises(BadInputError, match="source before: .*no dataset here yet"):
        read(str(tmp_path))


def test_rows_that_were_changed_are_refused(tmp_path: Path) -> None:
    dataset = made(tmp_path, str(tmp_path / "dataset"))
    item = read_commit(dataset.store, Unit(0, 0)).object("jsonl")
    dataset.store.put(item.final_key, dataset.store.get(item.final_key).replace(b"digest", b"tigers", 1))
    with pytest.raises(StoreError, match="sha256"):
        read(dataset.store.uri)


def test_a_dataset_of_other_upstream_rows_is_another_dataset(dataset: Dataset, tmp_path: Path) -> None:
    recipe = next_stage(tmp_path, source(dataset.store.uri, upstream=dataset.record.fingerprint))
    store = Store(recipe.execution.output)
    report = write_plan(recipe, store)
    create_dataset(recipe, store, report, "next")
    other = next_stage(tmp_path, source(dataset.store.uri, upstream="0123" * 16))
    with pytest.raises(IdentityMismatchError, match=r"sources\.0\.upstream"):
        create_dataset(other, store, report, "next")


def test_rows_are_read_from_s3(tmp_path: Path, bucket: str) -> None:
    dataset = made(tmp_path, f"s3://{bucket}/made")
    records = read(f"s3://{bucket}/made", upstream=dataset.record.fingerprint)
    assert len(records) == 50
    lines = [line for shard in range(3) for line in lines_of(dataset, Unit(shard, 0))]
    assert [(record.payload or "").encode() for record in records] == lines
