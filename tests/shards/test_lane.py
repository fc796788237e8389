"""The lane and the shard runner: every sample accounted for, the engine kept busy, failures contained."""

import asyncio
import contextlib
import hashlib
import tarfile
import threading
import time
from concurrent.futures import CancelledError, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import orjson
import pytest

from caprl_core.engines.protocol import Request
from caprl_core.errors import EngineDeadError
from caprl_core.shards import runner
from caprl_core.shards.dataset import Dataset
from caprl_core.shards.events import ShardEvent
from caprl_core.shards.previous import read_results
from caprl_core.shards.progress import progress, unfinished_units
from caprl_core.shards.revise import known_reasons, retry_rejected, revisable
from caprl_core.shards.verify import verify
from caprl_core.storage.commit import list_units, read_commit
from caprl_core.storage.layout import ATTEMPTS, Attempt, Unit
from caprl_core.storage.log import read_log
from caprl_core.storage.publish import publish, sweep, sweep_unit
from caprl_core.storage.store import Store
from support.drawn_dataset import draw_pictures, lane_for, planned, recipe_for
from support.echo_engine import EchoEngine, caption_of


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return draw_pictures(tmp_path / "images", 40)


def rows_of(dataset: Dataset, unit: Unit) -> list[Any]:
    record = read_commit(dataset.store, unit)
    return [orjson.loads(line) for line in dataset.store.get(record.object("jsonl").final_key).splitlines()]


def test_a_shard_becomes_rows_with_their_provenance_and_original_bytes(images: Path, tmp_path: Path) -> None:
    recipe = recipe_for(images, str(tmp_path / "out"))
    dataset = planned(recipe)
    with lane_for(recipe, dataset, EchoEngine()) as lane:
        result = lane.run(Unit(0, 0))
    assert (result.won, result.record.rows, result.record.rejected) == (True, 20, 0)
    rows = rows_of(dataset, Unit(0, 0))
    with tarfile.open(tmp_path / "out" / "shards" / "drawn-000000.tar") as tar:
        for row in rows:
            original = (images / row["image"]).read_bytes()
            assert tar.extractfile(row["image_file"]).read() == original  # type: ignore[union-attr]
            assert row["image_sha256"] == hashlib.sha256(original).hexdigest()
            assert row["image_size"] == len(original)
            assert row["caption"].startswith("A drawn picture whose digest begins with")
            assert (row["model"], row["engine"], row["prompt_id"]) == ("test/echo", "echo", "plain")
            assert (row["attempt"], row["finish_reason"]) == (1, "stop")
            assert row["engine_width"] % 28 == row["engine_height"] % 28 == 0
    assert len({row["seed"] for row in rows}) == 20
    assert verify(dataset, deep=True).sound


def test_a_committed_shard_is_not_asked_again(images: Path, tmp_path: Path) -> None:
    recipe = recipe_for(images, str(tmp_path / "out"))
    dataset = planned(recipe)
    engine = EchoEngine()
    with lane_for(recipe, dataset, engine) as lane:
        first = lane.run(Unit(0, 0)).record
        again = lane.run(Unit(0, 0))
    assert again.record == first
    assert not again.won
    assert len(engine.requests) == 20


def test_refused_replies_are_asked_again_with_another_seed_and_then_dropped(images: Path, tmp_path: Path) -> None:
    seeds: dict[str, list[int | None]] = {}

    def answer(request: Request) -> str:
        key, attempt, _ = request.request_id.split("/")
        seeds.setdefault(key, []).append(request.sampling.seed)
        if key.endswith(tuple("01")):
            return "I'm sorry, I cannot describe this image."
        return "" if key.endswith(tuple("23")) and attempt == "1" else caption_of(request)

    recipe = recipe_for(images, str(tmp_path / "out"), execution__gate__max_share={"*": 1.0}, dataset__shard_samples=40)
    dataset = planned(recipe)
    with lane_for(recipe, dataset, EchoEngine(answer=answer)) as lane:
        record = lane.run(Unit(0, 0)).record
    refused = [key for key in seeds if key.endswith(tuple("01"))]
    second = [key for key in seeds if key.endswith(tuple("23"))]
    assert refused
    assert second
    assert record.reasons == {"refused": len(refused)}
    assert record.attempts == {"1": 40 - len(refused) - len(second), "2": len(second)}
    assert all(len(set(seeds[key])) == 2 for key in [*refused, *second])
    ledger = {key: result.ledger for key, result in read_results(dataset.store, record).items()}
    assert all(ledger[key]["earlier"] == ["refused"] and ledger[key]["attempt"] == 2 for key in refused)
    assert all(ledger[key]["earlier"] == ["empty"] and ledger[key]["status"] == "row" for key in second)


def test_missing_and_broken_images_are_ledger_lines(images: Path, tmp_path: Path) -> None:
    recipe = recipe_for(images, str(tmp_path / "out"), execution__gate__max_share={"*": 1.0})
    dataset = planned(recipe)
    (images / "picture-0003.jpg").unlink()
    (images / "picture-0005.jpg").write_bytes(b"not an image")
    with lane_for(recipe, dataset, EchoEngine()) as lane:
        record = lane.run(Unit(0, 0)).record
    assert record.rows == 18
    assert set(record.reasons) == {"image_missing", "image_corrupt"}
    assert verify(dataset).sound


def test_closing_a_lane_in_mid_shard_flushes_the_log(images: Path, tmp_path: Path) -> None:
    recipe = recipe_for(images, str(tmp_path / "out"), execution__runner__flush_s=3600.0)
    dataset = planned(recipe)
    engine = EchoEngine(4, latency_s=lambda request: 3600 if len(engine.requests) > 8 else 0.001)
    lane = lane_for(recipe, dataset, engine)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(lane.run, Unit(0, 0))
        while len(engine.requests) < 12:
            time.sleep(0.01)
        lane.close()
        with pytest.raises(CancelledError):
            running.result(30)
    assert engine.closed
    assert len(read_log(dataset.store, Unit(0, 0))) >= 8


def test_neighbouring_shards_overlap_and_never_exceed_the_engine(images: Path, tmp_path: Path) -> None:
    recipe = recipe_for(images, str(tmp_path / "out"))
    dataset = planned(recipe)
    engine = EchoEngine(6, latency_s=lambda request: 0.02 + 0.3 * (request.images[0].sha256 < "1"))
    inside: list[Unit] = []

    def observe(event: ShardEvent) -> None:
        inside.append(event.unit)

    with lane_for(recipe, dataset, engine) as lane, ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda shard: lane.run(Unit(shard, 0), observe), range(2)))
    assert engine.most_inside == 6
    changes = sum(first != second for first, second in zip(inside, inside[1:], strict=False))
    assert changes > 1, "the second shard did not start before the first ended"
    assert verify(dataset, deep=True).rows == 40


def test_one_of_two_racing_attempts_is_the_shard_and_the_losers_bytes_are_swept(tmp_path: Path) -> None:
    images = draw_pictures(tmp_path / "images", 6)
    recipe = recipe_for(images, str(tmp_path / "out"), dataset__shard_samples=6)
    won = {True: 0, False: 0}
    lanes = []
    for race in range(3):
        changed = recipe.model_copy(
            update={"execution": recipe.execution.model_copy(update={"output": str(tmp_path / f"out{race}")})}
        )
        dataset = planned(changed)
        lanes = [lane_for(changed, dataset, EchoEngine(latency_s=lambda _: 0.005)) for _ in range(2)]
        with ThreadPoolExecutor(2) as pool:
            results = list(pool.map(lambda lane: lane.run(Unit(0, 0)), lanes))
        for lane in lanes:
            lane.close()
        assert results[0].record == results[1].record
        for result in results:
            won[result.won] += 1
        assert sum(result.won for result in results) == 1
        assert verify(dataset, deep=True).sound
        sweep(dataset.store, [results[0].record])
        assert list(dataset.store.list("attempts")) == []
    assert won == {True: 3, False: 3}


def test_a_commit_whose_publisher_died_is_published_by_whoever_comes(images: Path, tmp_path: Path) -> None:
    recipe = recipe_for(images, str(tmp_path / "out"))
    dataset = planned(recipe)

    class Died(BaseException):
        pass

    def observe(event: ShardEvent) -> None:
        if event.step == "tar published":
            raise Died

    with lane_for(recipe, dataset, EchoEngine()) as lane:
        with pytest.raises(Died):
            lane.run(Unit(0, 0), observe)
        assert verify(dataset).unpublished == 1
        assert verify(dataset, deep=True).sound, "readers find the objects below the attempt until they are published"
        lane.run(Unit(0, 0))
    assert verify(dataset).unpublished == 0


def test_rejected_samples_are_redone_in_a_superseding_revision(images: Path, tmp_path: Path) -> None:
    healed = False

    def answer(request: Request) -> str:
        return "" if not healed and request.images[0].sha256 < "4" else caption_of(request)

    recipe = recipe_for(images, str(tmp_path / "out"), execution__gate__max_share={"*": 1.0})
    dataset = planned(recipe)
    engine = EchoEngine(answer=answer)
    with lane_for(recipe, dataset, engine) as lane:
        before = [lane.run(Unit(shard, 0)).record for shard in range(2)]
        rejected = [record.rejected for record in before]
        assert sum(rejected) > 2
        old = {item.final_key: dataset.store.get(item.final_key) for record in before for item in record.objects}
        asked = len(engine.requests)
        healed = True
        reasons = known_reasons(["empty"])
        units = [Unit(record.shard, record.revision + 1) for record in revisable(dataset, reasons)]
        after = [retry_rejected(lane, dataset, unit, reasons).record for unit in units]
    assert len(engine.requests) - asked == sum(rejected)
    assert all(record.rejected == 0 and record.supersedes == 0 for record in after)
    assert {item: dataset.store.get(item) for item in old} == old, "the first revision must stay as it was"
    report = verify(dataset, deep=True)
    assert report.sound, report.problems
    assert (report.rows, report.rejected, report.revisions) == (40, 0, len(units))
    attempts = {row["attempt"] for unit in units for row in rows_of(dataset, unit)}
    assert attempts == {1, 3}, "attempts count on over revisions, so that seeds differ"


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (lambda store, record: store.put(record.object("jsonl").final_key, b"{}\n"), "missing"),
        (lambda store, record: _flip(store, record.object("jsonl").final_key), "sha256"),
        (lambda store, record: _flip(store, record.object("tar").final_key), "sha256"),
        (lambda store, record: _flip(store, record.object("ledger").final_key), "sha256"),
        (lambda store, record: store.delete([record.object("tar").final_key]), "missing"),
    ],
)
def test_verify_finds_what_is_spoilt(images: Path, tmp_path: Path, spoil: Any, problem: str) -> None:
    recipe = recipe_for(images, str(tmp_path / "out"))
    dataset = planned(recipe)
    with lane_for(recipe, dataset, EchoEngine()) as lane:
        record = lane.run(Unit(0, 0)).record
    assert verify(dataset, deep=True).sound
    spoil(dataset.store, record)
    report = verify(dataset, deep=True)
    assert not report.sound
    assert problem in report.problems[0]


def _flip(store: Store, key: str) -> None:
    data = bytearray(store.get(key))
    data[len(data) // 2] ^= 1
    store.put(key, bytes(data))


def test_images_that_change_between_caption_and_resume_are_not_packed(images: Path, tmp_path: Path) -> None:
    recipe = recipe_for(images, str(tmp_path / "out"), execution__gate__max_share={"*": 1.0})
    dataset = planned(recipe)

    class Died(BaseException):
        pass

    def observe(event: ShardEvent) -> None:
        if event.step == "all logged":
            raise Died

    with lane_for(recipe, dataset, EchoEngine()) as lane:
        with pytest.raises(Died):
            lane.run(Unit(0, 0), observe)
        (images / "picture-0002.png").write_bytes((images / "picture-0004.png").read_bytes())
        record = lane.run(Unit(0, 0)).record
    assert record.reasons == {"image_changed": 1}
    assert verify(dataset, deep=True).sound


def test_publishing_twice_changes_nothing(images: Path, tmp_path: Path) -> None:
    recipe = recipe_for(images, str(tmp_path / "out"))
    dataset = planned(recipe)
    with lane_for(recipe, dataset, EchoEngine()) as lane:
        record = lane.run(Unit(0, 0)).record
    before = {item.key: item.modified for item in dataset.store.list("shards")}
    publish(dataset.store, record)
    assert {item.key: item.modified for item in dataset.store.list("shards")} == before
    assert list_units(dataset.store) == [Unit(0, 0)]


async def test_a_lane_can_be_used_beside_a_running_event_loop(images: Path, tmp_path: Path) -> None:
    recipe = recipe_for(images, str(tmp_path / "out"))
    dataset = planned(recipe)
    with lane_for(recipe, dataset, EchoEngine()) as lane:
        result = await asyncio.to_thread(lane.run, Unit(1, 0))
    assert result.record.rows == 20


def test_hostile_text_is_packed_and_read_back_as_it_is(images: Path, tmp_path: Path) -> None:
    text = 'nul \x00, lone \ud800, lines \n \r \r\n \x0b \x0c \x1c \x85 \u2028 \u2029, quote " and \\, end \U0001f600'
    recipe = recipe_for(images, str(tmp_path / "out"))
    dataset = planned(recipe)
    with lane_for(recipe, dataset, EchoEngine(answer=lambda _: text)) as lane:
        lane.run(Unit(0, 0))
    kept = text.replace("\ud800", "\N{REPLACEMENT CHARACTER}")
    assert {row["caption"] for row in rows_of(dataset, Unit(0, 0))} == {kept}
    with tarfile.open(tmp_path / "out" / "shards" / "drawn-000000.tar") as tar:
        texts = {tar.extractfile(m).read() for m in tar if m.name.endswith(".txt")}  # type: ignore[union-attr]
    assert texts == {kept.encode()}
    assert verify(dataset, deep=True).sound


def test_a_lane_closed_while_shards_begin_never_hangs(images: Path, tmp_path: Path) -> None:
    recipe = recipe_for(images, str(tmp_path / "out"))
    dataset = planned(recipe)
    for delay in range(10):
        lane = lane_for(recipe, dataset, EchoEngine(latency_s=lambda _: 0.05))
        with ThreadPoolExecutor(4) as pool:
            running = [pool.submit(lane.run, Unit(number % 2, 0)) for number in range(4)]
            time.sleep(delay / 100)
            lane.close()
            for future in running:
                with contextlib.suppress(EngineDeadError, CancelledError):
                    future.result(30)
        with pytest.raises(EngineDeadError, match="closed"):
            lane.run(Unit(0, 0))
    with lane_for(recipe, dataset, EchoEngine()) as lane:
        for shard in range(2):
            lane.run(Unit(shard, 0))
    assert verify(dataset, deep=True).rows == 40


def test_an_attempt_that_only_packs_says_that_it_has_begun_and_that_it_failed(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or a shard that kills whoever packs it would never be known for it, and be left alone by `resume-failed`."""
    recipe = recipe_for(images, str(tmp_path / "out"))
    dataset = planned(recipe)
    attempts: dict[str, set[bool]] = {}

    def observe(event: ShardEvent) -> None:
        if event.step == "all logged":
            attempts[event.attempt] = {dataset.store.size(Attempt(event.unit, event.attempt).state_key) is not None}

    def broken(*_: Any) -> None:
        raise RuntimeError("the packing fails")

    with lane_for(recipe, dataset, EchoEngine()) as lane:
        with monkeypatch.context() as patch:
            patch.setattr(runner, "pack", broken)
            for _ in range(2):
                with pytest.raises(RuntimeError, match="packing"):
                    lane.run(Unit(0, 0), observe)
        running = progress(dataset, recipe.execution.cost).running
        assert [one.alive for one in running] == [False, False]
        assert lane.run(Unit(0, 0), observe).resumed == 20
    assert list(attempts.values()) == [{True}] * 3


def test_a_lane_that_is_stopped_while_it_sweeps_leaves_nothing(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = recipe_for(images, str(tmp_path / "out"))
    dataset = planned(recipe)
    swept, closed = threading.Event(), threading.Event()

    def slow(store: Store, unit: Unit) -> None:
        sweep_unit(store, unit)
        swept.set()
        closed.wait(30)

    monkeypatch.setattr(runner, "sweep_unit", slow)
    lane = lane_for(recipe, dataset, EchoEngine())
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(lane.run, Unit(0, 0))
        assert swept.wait(60)
        lane.close()
        closed.set()
        with pytest.raises(CancelledError):
            running.result(30)
    assert list(dataset.store.list(ATTEMPTS)) == []
    assert unfinished_units(dataset) == [Unit(1, 0)]
