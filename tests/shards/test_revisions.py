"""Superseding revisions under races, kills and changes of mind; resumes whose images are gone."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from caprl_core.engines.protocol import Request
from caprl_core.errors import ShardQuarantinedError, StoreError
from caprl_core.shards.dataset import Dataset
from caprl_core.shards.events import ShardEvent
from caprl_core.shards.gate import accept
from caprl_core.shards.previous import read_results
from caprl_core.shards.revise import known_reasons, retry_rejected
from caprl_core.shards.verify import verify
from caprl_core.storage.commit import read_commit
from caprl_core.storage.layout import ATTEMPTS, Unit
from caprl_core.storage.publish import sweep
from support.drawn_dataset import draw_pictures, lane_for, planned, recipe_for
from support.echo_engine import EchoEngine, caption_of

REFUSAL = "I'm sorry, I cannot describe this image."


class Died(BaseException):
    """Stands for the end of a process."""


def die_at(step: str) -> Callable[[ShardEvent], None]:
    def observe(event: ShardEvent) -> None:
        if event.step == step:
            raise Died

    return observe


class Patient:
    """An engine's manners: some samples come back empty, some refused, until `healed`."""

    def __init__(self) -> None:
        self.healed = False

    def answer(self, request: Request) -> str:
        first = request.images[0].sha256[0]
        if self.healed or first > "5":
            return caption_of(request)
        return "" if first < "3" else REFUSAL


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return draw_pictures(tmp_path / "images", 40)


def one_shard(images: Path, tmp_path: Path, **changes: object) -> tuple[Dataset, Callable[[EchoEngine], object]]:
    values = {"dataset__shard_samples": 40, "execution__gate__max_share": {"*": 1.0}} | changes
    recipe = recipe_for(images, str(tmp_path / "out"), **values)
    dataset = planned(recipe)
    return dataset, lambda engine: lane_for(recipe, dataset, engine)


def test_a_killed_retry_can_be_resumed_for_other_reasons(images: Path, tmp_path: Path) -> None:
    dataset, lane_with = one_shard(images, tmp_path)
    patient = Patient()
    engine = EchoEngine(answer=patient.answer)
    with lane_with(engine) as lane:  # type: ignore[attr-defined]
        reasons = lane.run(Unit(0, 0)).record.reasons
        assert reasons["empty"] > 0
        assert reasons["refused"] > 0
        patient.healed = True
        with pytest.raises(Died):
            retry_rejected(lane, dataset, Unit(0, 1), known_reasons(["empty"]), die_at("all logged"))
        asked = len(engine.requests)
        result = retry_rejected(lane, dataset, Unit(0, 1), known_reasons(["refused"]))
    assert len(engine.requests) - asked == reasons["refused"], "what the killed attempt had logged was asked again"
    assert (result.resumed, result.record.rejected) == (reasons["empty"], 0)
    ledger = read_results(dataset.store, result.record)
    redone = [line.ledger["completion_tokens"] for line in ledger.values() if line.ledger["attempt"] > 2]
    assert result.record.usage.completion_tokens == sum(redone)
    assert verify(dataset, deep=True).sound


def test_attempts_count_on_when_an_image_cannot_be_read_for_a_while(images: Path, tmp_path: Path) -> None:
    dataset, lane_with = one_shard(images, tmp_path, checks__max_attempts=1)
    patient = Patient()
    seeds: dict[str, list[int | None]] = {}

    def answer(request: Request) -> str:
        seeds.setdefault(request.request_id.split("/")[0], []).append(request.sampling.seed)
        return patient.answer(request)

    every = known_reasons([])
    hidden = tmp_path / "hidden"
    with lane_with(EchoEngine(answer=answer)) as lane:  # type: ignore[attr-defined]
        first = read_results(dataset.store, lane.run(Unit(0, 0)).record)
        victim = next(result.ledger for result in first.values() if result.rejected)
        (images / victim["image"]).rename(hidden)
        retry_rejected(lane, dataset, Unit(0, 1), every)
        hidden.rename(images / victim["image"])
        patient.healed = True
        last = read_results(dataset.store, retry_rejected(lane, dataset, Unit(0, 2), every).record)
    assert len(seeds[victim["key"]]) == len(set(seeds[victim["key"]])) == 2, "a seed that had failed was used again"
    assert last[victim["key"]].ledger["attempt"] == 2


@pytest.mark.parametrize("step", ["all logged", "ledger put"])
def test_an_attempt_that_wakes_up_after_sweep_and_revision_changes_nothing(
    images: Path, tmp_path: Path, step: str
) -> None:
    dataset, lane_with = one_shard(images, tmp_path)
    patient = Patient()
    asleep, wake = threading.Event(), threading.Event()

    def sleep(event: ShardEvent) -> None:
        if event.step == step:
            asleep.set()
            wake.wait(30)

    with (
        lane_with(EchoEngine(answer=patient.answer)) as zombies,  # type: ignore[attr-defined]
        lane_with(EchoEngine(answer=patient.answer)) as living,  # type: ignore[attr-defined]
        ThreadPoolExecutor(1) as pool,
    ):
        zombie = pool.submit(zombies.run, Unit(0, 0), sleep)
        assert asleep.wait(30)
        first = living.run(Unit(0, 0)).record
        patient.healed = True
        second = retry_rejected(living, dataset, Unit(0, 1), known_reasons([])).record
        sweep(dataset.store, [first, second])
        before = {item.key: dataset.store.get(item.key) for item in dataset.store.list("shards")}
        wake.set()
        late = zombie.result(30)
    assert (late.won, late.record) == (False, first)
    assert {item.key: dataset.store.get(item.key) for item in dataset.store.list("shards")} == before
    assert list(dataset.store.list(ATTEMPTS)) == []
    assert read_commit(dataset.store, Unit(0, 1)) == second
    assert verify(dataset, deep=True).sound


def test_two_retries_of_one_shard_make_one_revision(images: Path, tmp_path: Path) -> None:
    dataset, lane_with = one_shard(images, tmp_path)
    patient = Patient()
    with (
        lane_with(EchoEngine(answer=patient.answer)) as one,  # type: ignore[attr-defined]
        lane_with(EchoEngine(answer=patient.answer)) as other,  # type: ignore[attr-defined]
        ThreadPoolExecutor(2) as pool,
    ):
        one.run(Unit(0, 0))
        patient.healed = True
        reasons = [known_reasons(["empty"]), known_reasons(["refused"])]
        results = list(
            pool.map(lambda lane, why: retry_rejected(lane, dataset, Unit(0, 1), why), (one, other), reasons)
        )
    assert results[0].record == results[1].record
    assert sum(result.won for result in results) == 1
    report = verify(dataset, deep=True)
    assert report.sound, report.problems
    assert report.rows + report.rejected == 40


def test_a_changed_object_is_not_carried_into_a_new_revision(images: Path, tmp_path: Path) -> None:
    dataset, lane_with = one_shard(images, tmp_path)
    with lane_with(EchoEngine(answer=Patient().answer)) as lane:  # type: ignore[attr-defined]
        record = lane.run(Unit(0, 0)).record
        for role in ("tar", "jsonl"):
            key = record.object(role).final_key
            whole = dataset.store.get(key)
            dataset.store.put(key, whole.replace(b"drawn", b"drawm", 1))
            with pytest.raises(StoreError, match="sha256 of its commit"):
                retry_rejected(lane, dataset, Unit(0, 1), known_reasons([]))
            dataset.store.put(key, whole)
        retry_rejected(lane, dataset, Unit(0, 1), known_reasons([]))
    assert verify(dataset, deep=True).sound


def test_rows_whose_images_are_gone_at_a_resume_do_not_pass_the_gate_unseen(images: Path, tmp_path: Path) -> None:
    dataset, lane_with = one_shard(images, tmp_path, execution__gate__max_share={"*": 0.2})
    with lane_with(EchoEngine()) as lane:  # type: ignore[attr-defined]
        with pytest.raises(Died):
            lane.run(Unit(0, 0), die_at("all logged"))
        for path in sorted(images.iterdir())[:30]:
            path.write_bytes(b"another picture now")
        with pytest.raises(ShardQuarantinedError, match=r"image_changed 75\.0%"):
            lane.run(Unit(0, 0))
        accept(dataset.store, Unit(0, 0))
        record = lane.run(Unit(0, 0)).record
    assert record.reasons == {"image_changed": 30}
    assert {line.ledger["attempt"] for line in read_results(dataset.store, record).values()} == {1}
    assert record.usage.prompt_tokens == 40 * 10, "what was asked was paid for, whatever became of it"
    assert verify(dataset, deep=True).sound
