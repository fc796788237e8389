"""Engines that fail, talk nonsense or die: samples pay for themselves, shards for nothing."""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from caprl_core.engines.protocol import Reply, Request
from caprl_core.errors import EngineDeadError, SampleFailedError
from caprl_core.shards.verify import verify
from caprl_core.storage.layout import Unit
from caprl_core.storage.log import read_log
from support.drawn_dataset import draw_pictures, lane_for, planned, recipe_for
from support.echo_engine import EchoEngine, caption_of


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return draw_pictures(tmp_path / "images", 40)


def test_a_failed_request_costs_its_sample_only(images: Path, tmp_path: Path) -> None:
    def answer(request: Request) -> str:
        if request.images[0].sha256 < "2":
            raise SampleFailedError("request_refused", "prompt too long")
        return caption_of(request)

    recipe = recipe_for(images, str(tmp_path / "out"), execution__gate__max_share={"*": 1.0}, dataset__shard_samples=40)
    dataset = planned(recipe)
    with lane_for(recipe, dataset, EchoEngine(answer=answer)) as lane:
        record = lane.run(Unit(0, 0)).record
    assert record.reasons["request_refused"] == record.rejected > 0
    assert verify(dataset).sound


class JunkEngine(EchoEngine):
    """What an OpenAI-like server can make of a reply: every field of any type, or an error nobody foresaw."""

    JUNK: tuple[dict[str, Any], ...] = (
        {"prompt_tokens": None},
        {"completion_tokens": 10**30},
        {"prompt_tokens": "7"},
        {"completion_tokens": -1},
        {"text": ["a list"]},
        {"text": None},
    )

    async def generate(self, request: Request) -> Reply:
        reply = await super().generate(request)
        number = int(request.images[0].sha256[:2], 16) % (len(self.JUNK) + 3)
        if number == len(self.JUNK):
            raise AttributeError("'NoneType' object has no attribute 'content'")
        return replace(reply, **self.JUNK[number]) if number < len(self.JUNK) else reply


def test_junk_in_a_reply_costs_its_sample_only(images: Path, tmp_path: Path) -> None:
    recipe = recipe_for(images, str(tmp_path / "out"), execution__gate__max_share={"*": 1.0}, dataset__shard_samples=40)
    dataset = planned(recipe)
    with lane_for(recipe, dataset, JunkEngine()) as lane:
        record = lane.run(Unit(0, 0)).record
    assert record.rows > 0
    assert record.reasons == {"request_failed": 40 - record.rows}
    assert verify(dataset, deep=True).sound


def test_a_dead_engine_stops_the_shard_keeps_the_log_and_is_replaced(images: Path, tmp_path: Path) -> None:
    engines: list[EchoEngine] = []

    def answer(request: Request) -> str:
        if len(engines) == 1 and len(engines[0].requests) > 10:
            raise EngineDeadError("the engine went away")
        return caption_of(request)

    recipe = recipe_for(images, str(tmp_path / "out"), execution__runner__window=4)
    dataset = planned(recipe)
    lane = lane_for(recipe, dataset, None)
    lane._open_engine = lambda _: engines.append(EchoEngine(4, answer=answer)) or engines[-1]  # type: ignore[func-returns-value]
    with lane:
        with pytest.raises(EngineDeadError, match="went away"):
            lane.run(Unit(0, 0))
        logged = set(read_log(dataset.store, Unit(0, 0)))
        assert logged
        result = lane.run(Unit(0, 0))
    assert [engine.closed for engine in engines] == [True, True]
    assert result.resumed == len(logged)
    again = [request for request in engines[1].requests if not request.startswith("trifle")]
    assert len(again) == 20 - len(logged)
    assert verify(dataset, deep=True).sound


@pytest.mark.parametrize("lanes", [1, 2])
def test_what_a_dead_engine_had_worked_was_paid_too(images: Path, tmp_path: Path, lanes: int) -> None:
    """Whichever lane goes on: the seconds are in the log, beside the samples they went into."""
    latency_s, concurrency = 0.02, 4
    engines: list[EchoEngine] = []

    def answer(request: Request) -> str:
        if len(engines) == 1 and len(engines[0].requests) > 30:
            raise EngineDeadError("the engine went away")
        return caption_of(request)

    def open_engine(_: Any) -> EchoEngine:
        engines.append(EchoEngine(concurrency, answer=answer, latency_s=lambda _: latency_s))
        return engines[-1]

    recipe = recipe_for(images, str(tmp_path / "out"), execution__runner__flush_s=0.02, dataset__shard_samples=40)
    dataset = planned(recipe)
    first = lane_for(recipe, dataset, None)
    last = first if lanes == 1 else lane_for(recipe, dataset, None)
    first._open_engine = last._open_engine = open_engine  # type: ignore[method-assign,assignment]
    with first, last:
        with pytest.raises(EngineDeadError, match="went away"):
            first.run(Unit(0, 0))
        record = last.run(Unit(0, 0)).record
    assert record.usage.resumed > 20
    assert record.usage.engine_s > (record.samples - 1) * latency_s / concurrency


class MortalEngine(EchoEngine):
    """Answers nothing any more once it is closed."""

    async def generate(self, request: Request) -> Reply:
        reply = await super().generate(request)
        if self.closed:
            raise EngineDeadError("the engine is closed")
        return reply


def test_a_neighbour_that_still_works_with_a_dead_engine_hears_that_it_died(images: Path, tmp_path: Path) -> None:
    recipe = recipe_for(images, str(tmp_path / "out"))
    dataset = planned(recipe)
    fatal, neighbours = dataset.plan.shard_keys(0)[0], set(dataset.plan.shard_keys(1))
    engines: list[EchoEngine] = []

    def is_fatal(request: Request) -> bool:
        return len(engines) == 1 and request.request_id.startswith(fatal)

    def latency_s(request: Request) -> float:
        """The fatal request ends while the neighbour, at 4 requests in 0.2 s, is far from its end."""
        return 0.5 if is_fatal(request) else 0.2 if request.request_id.split("/")[0] in neighbours else 0.001

    def answer(request: Request) -> str:
        if is_fatal(request):
            raise EngineDeadError("the engine went away")
        return caption_of(request)

    def open_engine(_: Any) -> EchoEngine:
        engines.append(MortalEngine(4, latency_s=latency_s, answer=answer))
        return engines[-1]

    lane = lane_for(recipe, dataset, None)
    lane._open_engine = open_engine
    with lane, ThreadPoolExecutor(2) as pool:
        first = pool.submit(lane.run, Unit(0, 0))
        while not (engines and engines[0].requests):
            time.sleep(0.001)
        neighbour = pool.submit(lane.run, Unit(1, 0))
        with pytest.raises(EngineDeadError, match="went away"):
            first.result(30)
        lane.run(Unit(0, 0))
        with pytest.raises(EngineDeadError, match="went away"):
            neighbour.result(30)
        lane.run(Unit(1, 0))
    assert len(engines) == 2, "the successor was taken for dead"
    assert verify(dataset, deep=True).rows == 40
