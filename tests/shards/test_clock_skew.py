"""Hosts whose clocks are minutes and days wrong work one dataset."""

import datetime as dt
import time
from concurrent.futures import CancelledError, ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from caprl_core.recipe.models import CostExecution
from caprl_core.shards import runner
from caprl_core.shards.progress import progress
from caprl_core.shards.verify import verify
from caprl_core.storage import layout
from caprl_core.storage.commit import list_units, read_commits
from caprl_core.storage.layout import Unit
from caprl_core.storage.log import read_log
from support.drawn_dataset import draw_pictures, lane_for, planned, recipe_for
from support.echo_engine import EchoEngine

NEAR = dt.timedelta(minutes=1)


class WrongClock:
    """This host's clock, by which attempts are named and everything is dated that is not dated by the store."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self._patch = patch

    def set(self, wrong_s: float) -> None:
        class Wrong(dt.datetime):
            @classmethod
            def now(cls, tz: Any = None) -> Any:
                return dt.datetime.now(tz) + dt.timedelta(seconds=wrong_s)

        self._patch.setattr(
            layout, "time", SimpleNamespace(time_ns=lambda: time.time_ns() + int(wrong_s * 1_000_000_000))
        )
        self._patch.setattr(runner, "dt", SimpleNamespace(datetime=Wrong, UTC=dt.UTC, timedelta=dt.timedelta))


@pytest.mark.parametrize("skew_s", [600.0, -600.0, 86_400.0, -86_400.0])
def test_a_dataset_is_resumed_by_hosts_whose_clocks_differ(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, skew_s: float
) -> None:
    clock = WrongClock(monkeypatch)
    recipe = recipe_for(draw_pictures(tmp_path / "images", 60), f"s3://{bucket}/d")
    dataset = planned(recipe)
    clock.set(skew_s)
    first = EchoEngine(4, latency_s=lambda request: 3600 if len(first.requests) > 12 else 0.001)
    lane = lane_for(recipe, dataset, first)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(lane.run, Unit(0, 0))
        while len(first.requests) < 14:
            time.sleep(0.01)
        [attempt] = progress(dataset, CostExecution(), dataset.store.now()).running
        assert attempt.alive
        lane.close()
        with pytest.raises(CancelledError):
            running.result(30)
    [attempt] = progress(dataset, CostExecution(), dataset.store.now()).running
    assert not attempt.alive, "it was stopped, and said so"
    logged = len(read_log(dataset.store, Unit(0, 0)))
    clock.set(-skew_s)
    second = EchoEngine(4)
    with lane_for(recipe, dataset, second) as lane:
        assert lane.run(Unit(0, 0)).resumed == logged
        lane.run(Unit(1, 0))
    clock.set(skew_s / 2)
    with lane_for(recipe, dataset, EchoEngine(4)) as lane:
        lane.run(Unit(2, 0))
    assert len(second.requests) == 40 - logged
    report = verify(dataset, deep=True)
    assert report.sound, report.problems
    assert report.rows == 60
    now = dataset.store.now()
    records = list(read_commits(dataset.store, list_units(dataset.store)))
    assert all(abs(dt.datetime.fromisoformat(record.created) - now) < NEAR for record in records)
    assert (progress(dataset, CostExecution(), now).rate or 0) > 0
