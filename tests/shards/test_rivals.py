"""Two attempts at one unit: the slower one stops asking once the faster has committed."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from caprl_core.shards import rivals
from caprl_core.shards.verify import verify
from caprl_core.storage.layout import Unit
from support.drawn_dataset import draw_pictures, lane_for, planned, recipe_for
from support.echo_engine import EchoEngine


def test_an_attempt_that_is_overtaken_stops_asking_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rivals, "LOOK_S", 0.2)
    recipe = recipe_for(draw_pictures(tmp_path / "images", 20), str(tmp_path / "out"))
    dataset = planned(recipe)
    at_work = threading.Event()
    # It answers nobody for an hour: only somebody else's commit can end it.
    stuck = EchoEngine(latency_s=lambda _: 3600.0, asked=lambda _: at_work.set())
    with lane_for(recipe, dataset, stuck) as slow, lane_for(recipe, dataset, EchoEngine()) as fast:
        with ThreadPoolExecutor(1) as pool:
            overtaken = pool.submit(slow.run, Unit(0, 0))
            assert at_work.wait(30)
            winner = fast.run(Unit(0, 0))
            loser = overtaken.result(30)
        assert stuck.inside == 0, "it still asks"
    assert (winner.won, loser.won) == (True, False)
    assert loser.record == winner.record
    assert winner.record.rows == 20
    assert list(dataset.store.list("attempts")) == []
    assert verify(dataset, deep=True).sound


def test_an_attempt_goes_on_while_nobody_has_committed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rivals, "LOOK_S", 0.02)
    recipe = recipe_for(draw_pictures(tmp_path / "images", 20), str(tmp_path / "out"))
    dataset = planned(recipe)
    with lane_for(recipe, dataset, EchoEngine(latency_s=lambda _: 0.1)) as lane:
        result = lane.run(Unit(0, 0))
    assert (result.won, result.record.rows) == (True, 20)
