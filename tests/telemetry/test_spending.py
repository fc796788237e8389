"""GPU-hours and money, spent and to come."""

import pytest

from caprl_core.recipe.models import CostExecution
from caprl_core.shards.events import ShardResult
from caprl_core.shards.tally import RunStart, Tally
from caprl_core.storage.commit import Usage
from caprl_core.storage.layout import Unit
from caprl_core.telemetry.spending import Spending
from support.commit_records import commit_record

COST = CostExecution(gpus=2, gpu_hour_price=3.0, currency="EUR")


def committed(shard: int, engine_s: float) -> ShardResult:
    record = commit_record(Unit(shard, 0), samples=100, rejected=10, usage=Usage(engine_s=engine_s))
    return ShardResult(record.unit, record, won=True, resumed=0)


def test_what_is_left_costs_what_commits_have_cost_so_far() -> None:
    start = RunStart("drawn", "out", samples=1000, total=1000, done=100, rejected=0, shards=9, gpu_hours=1.0)
    tally, spending = Tally(start), Spending(COST, start)
    result = committed(1, engine_s=5400)
    tally.finished(result)
    spending.add(result)
    spent = spending.read(tally.snapshot())
    assert spent.gpu_hours == 1.0 + 2 * 1.5
    assert spent.gpu_hours_left == pytest.approx(4.0 * 800 / 200)
    assert (spent.cost, spent.cost_left, spent.currency) == (12.0, pytest.approx(48.0), "EUR")


def test_before_the_first_commit_nobody_knows_what_is_to_come() -> None:
    start = RunStart("drawn", "out", samples=1000, total=1000, done=0, rejected=0, shards=10)
    spent = Spending(COST, start).read(Tally(start).snapshot())
    assert (spent.gpu_hours, spent.gpu_hours_left, spent.cost_left) == (0, None, None)


def test_what_was_committed_before_and_only_published_now_is_paid_once() -> None:
    old = committed(1, engine_s=3600)
    start = RunStart(
        "drawn", "out", samples=200, total=200, done=100, rejected=10, shards=2, counted={old.unit}, gpu_hours=2.0
    )
    tally, spending = Tally(start), Spending(COST, start)
    tally.finished(old)
    spending.add(old)
    spent = spending.read(tally.snapshot())
    assert (spent.gpu_hours, spent.gpu_hours_left) == (2.0, pytest.approx(2.0))
