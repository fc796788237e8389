"""Stages of every kind through the same runner: without an engine, without reading images, with many requests."""

import tarfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import orjson
import pytest

from caprl_core.data.reasons import Reason
from caprl_core.data.row import row_schema
from caprl_core.data.sample import PlannedSample, PreparedImage
from caprl_core.engines.none import NoEngine
from caprl_core.engines.protocol import Reply, Request
from caprl_core.errors import BadInputError, SampleFailedError
from caprl_core.export.card import dataset_card
from caprl_core.export.download import download
from caprl_core.export.features import features, row_features
from caprl_core.export.jsonl import export_jsonl
from caprl_core.shards.dataset import Dataset, open_dataset
from caprl_core.shards.events import Observer, ShardEvent
from caprl_core.shards.lane import Lane
from caprl_core.shards.previous import read_results
from caprl_core.shards.results import absent_fields
from caprl_core.shards.revise import known_reasons, retry_rejected
from caprl_core.shards.stage import More, Outcome, Row
from caprl_core.shards.verify import verify
from caprl_core.storage.commit import read_commit
from caprl_core.storage.layout import Unit
from caprl_core.storage.store import Store
from support.drawn_dataset import draw_pictures, recipe_for
from support.echo_engine import EchoEngine
from support.small_stages import Interview, Length, blocks, created, rows_of

IMAGE_COLUMNS = ["image_sha256", "image_size", "image_format", "image_width", "image_height", "image_frames"]


def members(dataset: Dataset, unit: Unit) -> list[str]:
    record = read_commit(dataset.store, unit)
    with tarfile.open(Path(dataset.store.uri) / record.object("tar").final_key) as tar:
        return tar.getnames()


def children() -> set[str]:
    """Process ids of this process's children."""
    return {pid for task in Path("/proc/self/task").iterdir() for pid in (task / "children").read_text().split()}


class Died(BaseException):
    """Stands for a death at a step: nothing after it runs."""


def dying_at(step: str) -> Observer:
    def observe(event: ShardEvent) -> None:
        if event.step == step:
            raise Died

    return observe


TEXTS = [None if n == 7 else "" if n == 11 else "x" * n for n in range(50)]


# No engine, no image


def test_a_stage_without_engine_or_images_conserves_every_sample(tmp_path: Path) -> None:
    recipe = blocks(tmp_path, TEXTS)
    dataset = created(recipe, "length")
    stage = Length()
    before = children()
    with Lane(recipe, dataset, stage, lambda _: NoEngine()) as lane:
        assert lane.run(Unit(0, 0)).record.reasons == {"empty": 2, "sample_invalid": 1}
        half = verify(dataset, deep=True)
        assert half.sound
        assert (half.planned, half.rows, half.rejected, half.pending) == (50, 17, 3, 30)
        for shard in (1, 2):
            lane.run(Unit(shard, 0))
        assert children() == before, "there is nothing to decode"
    report = verify(dataset, deep=True)
    assert report.sound, report.problems
    assert (report.rows, report.rejected, report.pending) == (47, 3, 0)
    invalid = list(read_results(dataset.store, read_commit(dataset.store, Unit(0, 0))).values())[7]
    assert "blocks.jsonl: line 8" in invalid.ledger["detail"]
    assert "qa_response" in invalid.ledger["detail"]


def test_its_rows_name_neither_image_bytes_nor_engine(tmp_path: Path) -> None:
    recipe = blocks(tmp_path, ["one", "three"])
    dataset = created(recipe, "length")
    with Lane(recipe, dataset, Length(), lambda _: NoEngine()) as lane:
        lane.run(Unit(0, 0))
    rows = rows_of(dataset, Unit(0, 0))
    assert [row.pop("key") for row in rows] == [key.removesuffix(".json") for key in members(dataset, Unit(0, 0))[::2]]
    shared = {"source": "blocks", "record_id": None, "original_caption": None, "attempt": 1}
    assert rows == [shared | {"image": "0.jpg", "length": 3}, shared | {"image": "1.jpg", "length": 5}]
    assert [name.rpartition(".")[2] for name in members(dataset, Unit(0, 0))] == ["json", "txt"] * 2


def test_a_resume_judges_only_what_is_not_logged(tmp_path: Path) -> None:
    recipe = blocks(tmp_path, ["x"] * 20)
    dataset = created(recipe, "length")
    first, second = Length(), Length()
    with Lane(recipe, dataset, first, lambda _: NoEngine()) as lane, pytest.raises(Died):
        lane.run(Unit(0, 0), dying_at("all logged"))
    assert len(first.judged) == 20
    with Lane(recipe, dataset, second, lambda _: NoEngine()) as lane:
        result = lane.run(Unit(0, 0))
    assert (second.judged, result.resumed, result.record.rows) == ([], 20, 20)
    assert verify(dataset, deep=True).sound


def test_samples_that_ask_nothing_never_wait_for_one_another_in_the_log(tmp_path: Path) -> None:
    # 8 places ahead of the engine, 12 results a flush: were places kept until the log is written, none ever would be.
    recipe = blocks(tmp_path, ["x"] * 100, flush_s=3600.0)
    dataset = created(recipe, "length")
    with ThreadPoolExecutor(4) as pool, Lane(recipe, dataset, Length(), lambda _: EchoEngine(8)) as lane:
        running = [pool.submit(lane.run, Unit(shard, 0)) for shard in range(5)]
        assert sum(future.result(60).record.rows for future in running) == 100


def test_rejected_samples_of_such_a_stage_can_be_redone(tmp_path: Path) -> None:
    recipe = blocks(tmp_path, ["", "x", ""])
    dataset = created(recipe, "length")

    class Lenient(Length):
        def outcome(self, sample: PlannedSample, replies: Sequence[Reply], attempt: int) -> Outcome:
            return Row({"length": attempt})

    with Lane(recipe, dataset, Length(), lambda _: NoEngine()) as lane:
        assert lane.run(Unit(0, 0)).record.rejected == 2
    with Lane(recipe, dataset, Lenient(), lambda _: NoEngine()) as lane:
        retry_rejected(lane, dataset, Unit(0, 1), known_reasons(["empty"]))
    assert [(row["length"], row["attempt"]) for row in rows_of(dataset, Unit(0, 1))] == [(2, 2), (1, 1), (2, 2)]
    assert verify(dataset, deep=True).sound


# Images seen and not kept


def test_a_stage_that_only_sees_images_records_them_and_keeps_none(tmp_path: Path) -> None:
    images = draw_pictures(tmp_path / "images", 20)
    (images / "picture-0003.jpg").write_bytes(b"no image")
    recipe = recipe_for(images, str(tmp_path / "out"))
    dataset = created(recipe, "interview")
    with Lane(recipe, dataset, Interview(1), lambda _: EchoEngine()) as lane:
        record = lane.run(Unit(0, 0)).record
    assert (record.rows, record.reasons) == (19, {"image_corrupt": 1})
    for row in rows_of(dataset, Unit(0, 0)):
        assert set(IMAGE_COLUMNS) < row.keys()
        assert not {"image_file", "member_sha256"} & row.keys()
        assert (row["model"], row["prompt_id"], row["engine_width"]) == ("test/echo", "interview-v1", 56)
    assert {name.rpartition(".")[2] for name in members(dataset, Unit(0, 0))} == {"json", "txt"}
    assert verify(dataset, deep=True).sound


def test_its_resume_reads_no_image_again(tmp_path: Path) -> None:
    images = draw_pictures(tmp_path / "images", 20)
    recipe = recipe_for(images, str(tmp_path / "out"))
    dataset = created(recipe, "interview")
    with Lane(recipe, dataset, Interview(1), lambda _: EchoEngine()) as lane, pytest.raises(Died):
        lane.run(Unit(0, 0), dying_at("all logged"))
    for image in images.iterdir():
        image.unlink()
    engine = EchoEngine()
    with Lane(recipe, dataset, Interview(1), lambda _: engine) as lane:
        assert lane.run(Unit(0, 0)).record.rows == 20
    assert engine.requests == []
    assert verify(dataset, deep=True).sound


# Several requests a sample


@pytest.fixture
def interviewed(tmp_path: Path) -> Callable[..., tuple[Dataset, EchoEngine]]:
    """Work one shard of blocks through an interviewing stage."""

    def work(stage: Interview, engine: EchoEngine, samples: int = 5) -> tuple[Dataset, EchoEngine]:
        recipe = blocks(tmp_path, ["x"] * samples)
        dataset = created(recipe, stage.name)
        with Lane(recipe, dataset, stage, lambda _: engine) as lane:
            lane.run(Unit(0, 0))
        return dataset, engine

    return work


def numbers(engine: EchoEngine, key: str) -> list[int]:
    return [int(request.rpartition("/")[2]) for request in engine.requests if request.startswith(f"{key}/")]


def text_of(request: Request) -> str:
    return request.text


def test_replies_come_in_the_order_asked_however_they_arrive(interviewed: Any) -> None:
    slow_first = EchoEngine(40, latency_s=lambda request: 0.03 / (1 + (request.sampling.seed or 0)), answer=text_of)
    stage = Interview(4, 2, image_use="unread", leads=1)
    dataset, engine = interviewed(stage, slow_first)
    rows = rows_of(dataset, Unit(0, 0))
    assert [row["replies"] for row in rows] == [[f"{index}:{n}" for n in range(6)] for index in range(5)]
    assert [(row["prompt_tokens"], row["seed"]) for row in rows] == [(60, 5)] * 5
    assert all(sorted(numbers(engine, row["key"])) == list(range(6)) for row in rows)
    assert verify(dataset, deep=True).sound


def test_leads_are_answered_before_the_rest_and_the_rest_is_in_flight_together(interviewed: Any) -> None:
    events: list[tuple[str, str]] = []

    def answer(request: Request) -> str:
        events.append(("answered", request.request_id))
        return request.text

    engine = EchoEngine(9, lambda _: 0.02, answer, lambda request: events.append(("asked", request.request_id)))
    interviewed(Interview(8, 3, image_use="unread", leads=2), engine, samples=1)
    steps = [(what, int(request.rpartition("/")[2])) for what, request in events]
    assert {number for what, number in steps[:4]} == {0, 1}
    assert [what for what, _ in steps[:4]] == ["asked", "asked", "answered", "answered"]
    assert [what for what, _ in steps[4:16]] == ["asked"] * 6 + ["answered"] * 6
    assert [what for what, _ in steps[16:]] == ["asked"] * 3 + ["answered"] * 3, "further requests need no lead"


def test_a_sample_is_finished_before_many_others_begin(interviewed: Any) -> None:
    _, engine = interviewed(Interview(10, image_use="unread", leads=1), EchoEngine(1, answer=text_of), samples=12)
    begun = list(dict.fromkeys(request.split("/")[0] for request in engine.requests))
    last_of_first = max(n for n, request in enumerate(engine.requests) if request.startswith(begun[0]))
    assert {request.split("/")[0] for request in engine.requests[:last_of_first]} <= set(begun[:2])


def failing(*which: int) -> Callable[[Request], str]:
    def answer(request: Request) -> str:
        if request.sampling.seed in which:
            raise SampleFailedError(Reason.REQUEST_FAILED, "500 from the server")
        return request.text

    return answer


def test_a_tolerant_stage_is_handed_failures_as_replies(interviewed: Any) -> None:
    stage = Interview(3, image_use="unread", leads=1, tolerates=True)
    dataset, _ = interviewed(stage, EchoEngine(answer=failing(0, 2)))
    failure = "request_failed: 500 from the server"
    for row in rows_of(dataset, Unit(0, 0)):
        assert [row["replies"][0], row["replies"][2]] == [failure, failure]
        assert row["replies"][1].endswith(":1")
    assert verify(dataset, deep=True).sound


def test_an_intolerant_one_loses_the_sample_with_the_servers_words(interviewed: Any) -> None:
    dataset, _ = interviewed(Interview(3, image_use="unread"), EchoEngine(answer=failing(1)))
    results = read_results(dataset.store, read_commit(dataset.store, Unit(0, 0))).values()
    assert {(r.ledger["reason"], r.ledger["detail"]) for r in results} == {("request_failed", "500 from the server")}
    assert verify(dataset, deep=True).sound


def test_a_stage_killed_between_samples_asks_no_logged_sample_again(tmp_path: Path) -> None:
    recipe = blocks(tmp_path, ["x"] * 20, window=2)
    dataset = created(recipe, "interview")
    stage = Interview(3, 1, image_use="unread", leads=1)
    first, second = EchoEngine(2), EchoEngine(2)
    logged: Iterator[int] = iter(range(6))

    def observe(event: ShardEvent) -> None:
        if event.step == "sample" and next(logged, None) is None:
            raise Died

    with Lane(recipe, dataset, stage, lambda _: first) as lane, pytest.raises(Died):
        lane.run(Unit(0, 0), observe)
    with Lane(recipe, dataset, stage, lambda _: second) as lane:
        result = lane.run(Unit(0, 0))
    twice = {request.split("/")[0] for request in first.requests} & {r.split("/")[0] for r in second.requests}
    assert result.resumed >= 6
    assert len(second.requests) == 4 * (20 - result.resumed)
    assert len(twice) <= 2, "only what was in the window is asked again"
    assert verify(dataset, deep=True).rows == 20


# Stages that are not what they promise cost their samples, never the shard


class NamesNothing(Interview):
    def outcome(self, sample: PlannedSample, replies: Sequence[Reply], attempt: int) -> Outcome:
        return More(())


class AsksNothing(Interview):
    def requests(self, sample: PlannedSample, image: PreparedImage | None, attempt: int) -> Sequence[Request]:
        return ()

    def outcome(self, sample: PlannedSample, replies: Sequence[Reply], attempt: int) -> Outcome:
        return Row({"replies": []})


class Breaks(Interview):
    def requests(self, sample: PlannedSample, image: PreparedImage | None, attempt: int) -> Sequence[Request]:
        raise KeyError(sample.payload)


@pytest.mark.parametrize(
    ("kind", "reason", "detail"),
    [
        (NamesNothing, "unparsable", "names nothing"),
        (AsksNothing, "unparsable", "asked nothing"),
        (Breaks, "sample_invalid", "KeyError"),
    ],
)
def test_a_broken_stage_costs_its_samples(interviewed: Any, kind: type[Interview], reason: str, detail: str) -> None:
    dataset, _ = interviewed(kind(1, image_use="unread"), EchoEngine(answer=text_of))
    record = read_commit(dataset.store, Unit(0, 0))
    assert record.reasons == {reason: 5}
    assert all(detail in result.ledger["detail"] for result in read_results(dataset.store, record).values())
    assert verify(dataset, deep=True).sound


# Getting them out


def test_such_datasets_are_downloaded_exported_and_described(tmp_path: Path) -> None:
    recipe = blocks(tmp_path, TEXTS)
    dataset = created(recipe, "length")
    with Lane(recipe, dataset, Length(), lambda _: NoEngine()) as lane:
        for shard in range(3):
            lane.run(Unit(shard, 0))
    assert download(dataset.store, tmp_path / "copy").complete
    copy = open_dataset(Store(str(tmp_path / "copy")))
    assert verify(copy, deep=True).rows == 47
    out = tmp_path / "out.jsonl"
    assert export_jsonl(copy, str(out), form="full").rows == 47
    schema = row_schema(Length.fields, absent_fields(Length()))
    assert list(orjson.loads(out.read_bytes().splitlines()[0])) == schema.names
    assert export_jsonl(copy, str(out), fields=["image", "length"]).rows == 47
    with pytest.raises(BadInputError, match="no column 'caption'.*it has key, source, image"):
        export_jsonl(copy, str(out))
    with pytest.raises(BadInputError, match="a card is for captions"):
        dataset_card(copy, Length.fields)


def test_their_rows_and_tars_load_with_datasets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    recipe = blocks(tmp_path, ["x"] * 3)
    dataset = created(recipe, "length")
    with Lane(recipe, dataset, Length(), lambda _: NoEngine()) as lane:
        lane.run(Unit(0, 0))
    absent, files = absent_fields(Length()), f"{dataset.store.uri}/shards"
    rows = datasets.load_dataset(
        "json", data_files=f"{files}/*.jsonl", features=row_features(Length.fields, absent), split="train"
    )
    tars = datasets.load_dataset(
        "webdataset", data_files=f"{files}/*.tar", features=features(Length.fields, absent), split="train"
    )
    assert rows["length"] == [1, 1, 1]
    assert list(tars["json"]) == list(rows)
