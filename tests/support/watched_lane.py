"""A lane with telemetry around it, worked as flows do it, and what a scrape of its metrics says."""

import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from caprl_core.captioning.stage import CaptionStage
from caprl_core.recipe.models import CaptionRecipe
from caprl_core.shards.dataset import Dataset
from caprl_core.shards.events import ShardEvent, ShardResult
from caprl_core.shards.lane import Lane
from caprl_core.storage.layout import Unit
from caprl_core.telemetry.lane_telemetry import LaneTelemetry


def work_all(
    recipe: CaptionRecipe,
    dataset: Dataset,
    engine: Callable[[], Any],
    units: list[Unit],
    *,
    threads: int = 2,
    observe: Callable[[ShardEvent], None] = lambda _: None,
    then: Callable[[], None] = lambda: None,
) -> list[ShardResult | Exception]:
    """Work these units as `flows.shard_run` does; `then` is called at the end, while the lane still stands."""
    with (
        LaneTelemetry(recipe, dataset, shards=len(units), flow_run="a-flow-run") as telemetry,
        Lane(recipe, dataset, telemetry.stage(CaptionStage(recipe)), lambda _: telemetry.engine(engine())) as lane,
        ThreadPoolExecutor(threads) as pool,
    ):

        def told(event: ShardEvent) -> None:
            telemetry.observe(event)
            observe(event)

        def work(unit: Unit) -> ShardResult | Exception:
            try:
                return telemetry.work(unit, 1, lambda: lane.run(unit, told))
            except Exception as error:
                return error

        outcomes = list(pool.map(work, units))
        for outcome in outcomes:
            telemetry.ended(outcome if isinstance(outcome, Exception) else None)
        then()
        return outcomes


def page(port: int) -> str:
    """What `/metrics` says."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as reply:
        return str(reply.read().decode())


Scrape = dict[tuple[str, frozenset[tuple[str, str]]], float]


def scrape(port: int) -> Scrape:
    """(name, labels without dataset and lane) -> value."""
    found: Scrape = {}
    for family in text_string_to_metric_families(page(port)):
        for sample in family.samples:
            labels = {name: value for name, value in sample.labels.items() if name not in ("dataset", "lane")}
            found[sample.name, frozenset(labels.items())] = sample.value
    return found


def value(scraped: Scrape, name: str, **labels: str) -> float:
    return scraped[name, frozenset(labels.items())]
