"""Prometheus metrics of a lane: true to the ledger, on a port nobody need open, and never in the lane's way."""

import asyncio
import logging
import socket
import threading
from pathlib import Path
from typing import Any

import psutil
import pytest
from prometheus_client import REGISTRY
from prometheus_client.parser import text_string_to_metric_families

from caprl_core.engines.protocol import EngineInfo, Reply, Request
from caprl_core.errors import EngineDeadError
from caprl_core.recipe.models import CaptionRecipe
from caprl_core.shards.current import current_commits
from caprl_core.shards.dataset import Dataset
from caprl_core.shards.events import ShardResult
from caprl_core.storage.layout import Unit
from caprl_core.telemetry.exposure import MetricsServer
from caprl_core.telemetry.figures import LaneFigures
from caprl_core.telemetry.metrics import LaneCollector
from support.drawn_dataset import planned, recipe_for
from support.echo_engine import EchoEngine, caption_of
from support.watched_lane import Scrape, page, scrape, value, work_all

UNITS = [Unit(0, 0), Unit(1, 0), Unit(2, 0)]


def spoilt(images: Path) -> None:
    for name in sorted(path.name for path in images.iterdir())[:3]:
        (images / name).write_bytes(b"no picture at all")


class MoodyEngine(EchoEngine):
    """Every fifth picture is refused at first and then described; every eleventh has nothing but a refusal."""

    def __init__(self, **options: Any) -> None:
        super().__init__(answer=self._mood, **options)

    def _mood(self, request: Request) -> str:
        number = int(request.images[0].sha256[:8], 16)
        attempt = int(request.request_id.split("/")[-2])
        if number % 11 == 0 or (number % 5 == 0 and attempt == 1):
            return ""
        return caption_of(request)


def prepared(images: Path, tmp_path: Path, port: int | None, **changes: Any) -> tuple[CaptionRecipe, Dataset]:
    changes = {"execution__metrics": {"port": port}, "execution__gate__max_share": {"*": 1.0}} | changes
    recipe = recipe_for(images, str(tmp_path / "out"), **changes)
    return recipe, planned(recipe)


def test_at_the_end_every_counter_is_what_commits_and_ledger_say(images: Path, tmp_path: Path, port: int) -> None:
    spoilt(images)
    recipe, dataset = prepared(images, tmp_path, port)
    engine = MoodyEngine(latency_s=lambda _: 0.01)
    seen: list[Scrape] = []
    outcomes = work_all(recipe, dataset, lambda: engine, UNITS, then=lambda: seen.append(scrape(port)))
    records = current_commits(dataset).records
    assert len(records) == len(outcomes) == 3
    end = seen[0]
    rejected = {reason: sum(r.reasons.get(reason, 0) for r in records) for r in records for reason in r.reasons}
    assert value(end, "caprl_samples_total", outcome="row") == sum(record.rows for record in records)
    assert value(end, "caprl_samples_total", outcome="rejected") == sum(rejected.values())
    assert rejected["image_corrupt"] == 3
    assert rejected["empty"] > 0
    assert {
        dict(labels)["reason"]: count for (name, labels), count in end.items() if name == "caprl_rejected_samples_total"
    } == rejected
    assert value(end, "caprl_prompt_tokens_total") == sum(record.usage.prompt_tokens for record in records)
    assert value(end, "caprl_completion_tokens_total") == sum(record.usage.completion_tokens for record in records)
    assert value(end, "caprl_requests_total", outcome="answered") == len(engine.requests)
    assert len(engine.requests) > 57, "some were asked twice"
    assert value(end, "caprl_requests_total", outcome="failed") == 0
    assert value(end, "caprl_requests_in_flight") == 0
    assert value(end, "caprl_request_slots") == 8
    assert value(end, "caprl_waiting_samples") == value(end, "caprl_log_lag_samples") == 0
    assert value(end, "caprl_shards", state="committed") == 3
    assert sum(value(end, "caprl_shards", state=s) for s in ("waiting", "working", "quarantined", "failed")) == 0
    assert (value(end, "caprl_engine_starts_total"), value(end, "caprl_engine_deaths_total")) == (1, 0)
    assert value(end, "caprl_commit_seconds_count") == value(end, "caprl_commit_seconds_bucket", le="+Inf") == 3
    busy = sum(record.usage.engine_s for record in records)
    assert value(end, "caprl_engine_busy_seconds_total") == pytest.approx(busy, abs=0.05)


def test_a_scrape_while_the_lane_works_shows_what_is_in_flight(images: Path, tmp_path: Path, port: int) -> None:
    """The engine answers nothing until it has been looked at with all slots taken."""
    looked = threading.Event()
    seen: list[Scrape] = []

    class HeldEngine(EchoEngine):
        async def generate(self, request: Request) -> Reply:
            if not looked.is_set():
                if self.inside == self.concurrency - 1 and not seen:
                    seen.append({})
                    threading.Thread(target=look).start()
                self.inside += 1
                try:
                    await asyncio.to_thread(looked.wait, 30)
                finally:
                    self.inside -= 1
            return await super().generate(request)

    def look() -> None:
        seen[0] = scrape(port)
        looked.set()

    recipe, dataset = prepared(images, tmp_path, port)
    work_all(recipe, dataset, HeldEngine, UNITS)
    [during] = seen
    assert value(during, "caprl_requests_in_flight") == 8
    assert value(during, "caprl_shards", state="working") == 2
    assert value(during, "caprl_shards", state="waiting") == 1
    assert value(during, "caprl_shards", state="committed") == 0
    assert value(during, "caprl_samples_total", outcome="row") == 0
    assert value(during, "caprl_prompt_tokens_total") == 0


def test_an_engine_that_dies_is_counted_once_and_its_successor_too(images: Path, tmp_path: Path, port: int) -> None:
    class MortalEngine(EchoEngine):
        async def generate(self, request: Request) -> Reply:
            await asyncio.sleep(0.01)
            raise EngineDeadError("the GPU fell off the bus")

    class UnbornEngine(EchoEngine):
        async def start(self) -> EngineInfo:
            raise EngineDeadError("no GPU")

    recipe, dataset = prepared(images, tmp_path, port)
    engines = [MortalEngine(), UnbornEngine(), EchoEngine()]
    seen: list[Scrape] = []
    units = [Unit(0, 0)] * 3
    outcomes = work_all(
        recipe, dataset, lambda: engines.pop(0), units, threads=1, then=lambda: seen.append(scrape(port))
    )
    assert [isinstance(outcome, ShardResult) for outcome in outcomes] == [False, False, True]
    [end] = seen
    assert value(end, "caprl_engine_starts_total") == 2
    assert value(end, "caprl_engine_deaths_total") == 2
    assert value(end, "caprl_requests_total", outcome="failed") > 0
    assert value(end, "caprl_requests_in_flight") == value(end, "caprl_waiting_samples") == 0
    assert value(end, "caprl_samples_total", outcome="row") == 20


def test_no_label_grows_with_the_dataset_and_none_names_a_shard(images: Path, tmp_path: Path, port: int) -> None:
    recipe, dataset = prepared(images, tmp_path, port)
    texts: list[str] = []
    work_all(recipe, dataset, EchoEngine, UNITS, then=lambda: texts.append(page(port)))
    ours = [one for one in text_string_to_metric_families(texts[0]) if one.name.startswith("caprl_")]
    assert len(ours) > 15
    for family in ours:
        for sample in family.samples:
            assert sample.labels.keys() - {"outcome", "reason", "state", "le"} == {"dataset", "lane"}
            assert (sample.labels["dataset"], sample.labels["lane"]) == ("drawn", "0")
        assert family.documentation


def listeners() -> set[tuple[str, int]]:
    connections = psutil.Process().net_connections("inet")
    return {(c.laddr.ip, c.laddr.port) for c in connections if c.status == psutil.CONN_LISTEN}


def test_a_default_run_listens_on_nothing(images: Path, tmp_path: Path) -> None:
    recipe = recipe_for(images, str(tmp_path / "out"))
    assert recipe.execution.metrics.port is None
    before = listeners()
    during: list[set[tuple[str, int]]] = []
    work_all(recipe, planned(recipe), EchoEngine, UNITS, then=lambda: during.append(listeners()))
    assert during == [before]


def test_it_listens_on_this_machine_alone_and_frees_the_port_at_the_end(
    images: Path, tmp_path: Path, port: int
) -> None:
    recipe, dataset = prepared(images, tmp_path, port)
    before = listeners()
    during: list[set[tuple[str, int]]] = []
    work_all(recipe, dataset, EchoEngine, UNITS, then=lambda: during.append(listeners()))
    assert during[0] - before == {("127.0.0.1", port)}
    assert listeners() == before
    assert not any("caprl" in name for name in REGISTRY._names_to_collectors), "nothing is left in a global place"


def figures() -> LaneFigures:
    return LaneFigures(1, lambda _: 10)


def serving(port: int, **settings: Any) -> MetricsServer:
    from caprl_core.recipe.models import MetricsExecution

    made = MetricsExecution(port=port, **settings)
    return MetricsServer(made, lambda place: LaneCollector(figures().read, "drawn", str(place)))


def test_lanes_of_one_host_share_a_range_of_ports(port: int) -> None:
    with serving(port) as first, serving(port) as second:
        assert (first.port, second.port) == (port, port + 1)
        for lane, at in (("0", port), ("1", port + 1)):
            assert f'caprl_requests_in_flight{{dataset="drawn",lane="{lane}"}} 0.0' in page(at)


def test_a_lane_without_a_free_port_works_unseen_and_says_so(
    images: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        recipe, dataset = prepared(images, tmp_path, port, execution__metrics={"port": port, "ports": 1})
        with caplog.at_level(logging.WARNING):
            outcomes = work_all(recipe, dataset, EchoEngine, UNITS)
    assert all(isinstance(outcome, ShardResult) for outcome in outcomes)
    assert "no metrics" in caplog.text


@pytest.mark.parametrize("address", ["203.0.113.7", "no.such.host.invalid"])
def test_an_address_this_host_has_not_costs_the_metrics_alone(
    port: int, address: str, caplog: pytest.LogCaptureFixture
) -> None:
    with serving(port, address=address) as server:
        assert server.port is None
    assert address in caplog.text
