"""The gate quarantines a shard in which one reason claims too much, and an operator can accept or redo it."""

from pathlib import Path

import pytest

from caprl_core.data.row import Result
from caprl_core.errors import BadInputError, ShardQuarantinedError
from caprl_core.recipe.models import GateExecution
from caprl_core.shards.gate import accept, breaches, quarantined_units, redo
from caprl_core.shards.progress import progress, unfinished_units
from caprl_core.shards.revise import known_reasons
from caprl_core.shards.verify import verify
from caprl_core.storage.layout import Unit
from support.drawn_dataset import draw_pictures, lane_for, planned, recipe_for
from support.echo_engine import EchoEngine, caption_of


def results(**reasons: int) -> dict[str, Result]:
    names = [reason for reason, count in reasons.items() for _ in range(count)]
    return {
        f"k{number}": Result(
            f"k{number}", number, {"reason": None if name == "row" else name}, {} if name == "row" else None
        )
        for number, name in enumerate(names)
    }


def test_a_share_at_its_limit_passes_and_above_it_does_not() -> None:
    gate = GateExecution(max_share={"*": 0.2})
    assert breaches(results(row=80, truncated=20), gate) == []
    [breach] = breaches(results(row=79, truncated=21), gate)
    assert (breach.reason, breach.samples, breach.share) == ("truncated", 21, 0.21)


def test_a_reason_of_its_own_overrides_the_star() -> None:
    gate = GateExecution(max_share={"*": 0.01, "image_missing": 0.5})
    assert [b.reason for b in breaches(results(row=60, image_missing=38, empty=2), gate)] == ["empty"]


def test_small_shards_are_not_judged() -> None:
    assert breaches(results(empty=19), GateExecution(max_share={"*": 0.0}, min_samples=20)) == []


def test_one_sample_that_kills_engines_is_enough_unless_its_share_is_allowed() -> None:
    shard = results(row=999, engine_died=1)
    [breach] = breaches(shard, GateExecution(max_share={"*": 1.0}))
    assert (breach.reason, breach.samples, breach.limit) == ("engine_died", 1, 0.0)
    assert [b.reason for b in breaches(results(row=4, engine_died=1), GateExecution(min_samples=20))] == ["engine_died"]
    assert breaches(shard, GateExecution(max_share={"engine_died": 0.01})) == []


def test_samples_that_kill_engines_are_asked_again_only_by_name() -> None:
    assert "engine_died" not in known_reasons(())
    assert known_reasons(["engine_died"]) == {"engine_died"}


def test_a_quarantined_shard_is_not_visible_until_it_is_accepted(tmp_path: Path) -> None:
    recipe = recipe_for(draw_pictures(tmp_path / "images", 40), str(tmp_path / "out"))
    dataset = planned(recipe)
    engine = EchoEngine(
        answer=lambda request: (
            "" if "-" in request.request_id and request.images[0].sha256 < "8" else caption_of(request)
        )
    )
    with lane_for(recipe, dataset, engine) as lane:
        for shard in range(2):
            with pytest.raises(ShardQuarantinedError, match=rf"shard {shard}.*empty \d+.*--accept"):
                lane.run(Unit(shard, 0))
        assert verify(dataset).pending == 40
        assert progress(dataset, recipe.execution.cost).quarantined == (0, 1)
        before = len(engine.requests)
        accept(dataset.store, Unit(0, 0))
        record = lane.run(Unit(0, 0)).record
        assert len(engine.requests) == before, "an accepted shard must not be asked again"
        assert record.reasons["empty"] == record.rejected > 0
        assert redo(dataset.store, Unit(1, 0)) == 1
        with pytest.raises(ShardQuarantinedError):
            lane.run(Unit(1, 0))
        assert len(engine.requests) > before, "a shard to be redone must be asked again"
    assert unfinished_units(dataset) == [Unit(1, 0)]
    assert verify(dataset, deep=True).sound


def test_only_quarantined_shards_can_be_released(tmp_path: Path) -> None:
    recipe = recipe_for(draw_pictures(tmp_path / "images", 3), str(tmp_path / "out"))
    dataset = planned(recipe)
    with pytest.raises(BadInputError, match="shard 0 is not in quarantine"):
        accept(dataset.store, Unit(0, 0))
    assert quarantined_units(dataset.store) == {}
