"""`resume-failed`: what is missing, quarantined or rejected is found in the bucket alone, and only that is run."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from caprl_core.errors import ShardQuarantinedError
from caprl_core.recipe.load import load_recipe
from caprl_core.shards.dataset import open_dataset
from caprl_core.shards.gate import quarantined_units
from caprl_core.shards.lacking import lacking
from caprl_core.shards.revise import known_reasons
from caprl_core.shards.verify import VerifyReport, verify
from caprl_core.storage.commit import list_units
from caprl_core.storage.layout import Attempt, Unit
from caprl_core.storage.store import Store
from caprl_core.world.stub_server import StubServer
from flows.caption_dataset import caption_dataset
from flows.resume_failed import resume_failed
from support.stub_thread import seeds
from tasks.shard import work_shard

RecipeFile = Callable[..., str]
pytestmark = pytest.mark.usefixtures("prefect_api")


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work_shard, "retry_delay_seconds", [0.01, 0.01, 0.01])


def check(config: str) -> VerifyReport:
    recipe = load_recipe(config)
    report = verify(open_dataset(Store(recipe.execution.output), recipe), deep=True)
    assert report.sound, report.problems
    return report


def test_missing_shards_are_run_and_then_nothing(recipe_file: RecipeFile, tmp_path: Path, stub: StubServer) -> None:
    config = recipe_file(str(tmp_path / "out"))
    caption_dataset(config, max_shards=2)
    summary = resume_failed(config)
    assert (summary["missing"], summary["rejected"], summary["shards_committed"]) == (4, 0, 4)
    assert check(config).pending == 0
    asked = len(stub.requests)
    again = resume_failed(config)
    assert (again["missing"], again["shards_committed"]) == (0, 0)
    assert len(stub.requests) == asked, "no engine is opened for nothing"


PICKY = {"checks": {"max_attempts": 1, "min_characters": 120}}
"""About half of the stub's replies are shorter."""


def test_rejected_samples_are_asked_again_until_their_shard_has_had_its_revisions(
    recipe_file: RecipeFile, tmp_path: Path, stub: StubServer
) -> None:
    config = recipe_file(str(tmp_path / "out"), **PICKY, execution__gate={"max_share": {"*": 1.0}})
    rejected = caption_dataset(config)["rejected"]
    for revision in (1, 2):
        asked = seeds(stub)
        summary = resume_failed(config, max_revisions=2)
        again = seeds(stub)[len(asked) :]
        assert len(again) == summary["samples_asked"] == rejected, "only those that were rejected"
        assert not set(again) & set(asked), "a failed seed was used again"
        rejected = summary["samples_asked"] - (check(config).rows - (60 - rejected))
        assert check(config).rows == 60 - rejected
        assert any(unit.revision == revision for unit in list_units(Store(str(tmp_path / "out"))))
    assert rejected, "with other luck there is nothing left to give up"
    asked = seeds(stub)
    last = resume_failed(config, max_revisions=2)
    assert (last["rejected"], last["shards_committed"]) == (0, 0)
    assert last["given_up"] > 0
    assert seeds(stub) == asked


def test_shards_in_quarantine_are_tried_again_after_the_others(
    recipe_file: RecipeFile, tmp_path: Path, stub: StubServer
) -> None:
    gate = {"min_samples": 1, "max_share": {"*": 0.05}}
    config = recipe_file(str(tmp_path / "out"), **PICKY, execution__gate=gate)
    with pytest.raises(ShardQuarantinedError):
        caption_dataset(config, max_shards=2)
    dataset = open_dataset(Store(str(tmp_path / "out")))
    found = lacking(dataset, known_reasons(()), 3)
    assert found.quarantined == (Unit(0, 0), Unit(1, 0))
    assert found.missing == tuple(Unit(shard, 0) for shard in range(2, 6))
    # The gate is no part of the identity: with a looser one they pass, from their logs.
    loose = recipe_file(str(tmp_path / "out"), **PICKY, execution__gate={"max_share": {"*": 1.0}})
    asked = len(stub.requests)
    summary = resume_failed(loose, max_revisions=1)
    assert (summary["quarantined"], summary["missing"], summary["shards_committed"]) == (2, 4, 6)
    assert summary["samples_resumed"] == 20
    assert len(stub.requests) - asked == 40
    assert check(loose).pending == 0


def test_what_another_run_is_at_work_on_is_left_to_it(recipe_file: RecipeFile, tmp_path: Path) -> None:
    config = recipe_file(str(tmp_path / "out"))
    caption_dataset(config, max_shards=2)
    recipe = load_recipe(config)
    store = Store(recipe.execution.output)
    # The first log segment of an attempt elsewhere, just written.
    store.put(Attempt.begin(Unit(3, 0)).log_key(0, 1), b"")
    summary = resume_failed(config)
    assert (summary["missing"], summary["left_to_others"]) == (3, 1)
    assert summary["lines"] == [
        "left to another run, whose log is younger than 120 s: shards 3; run this again if there is none"
    ]
    assert set(list_units(store)) == {Unit(shard, 0) for shard in (0, 1, 2, 4, 5)}


def test_revisions_that_the_gate_refuses_keep_no_others_from_theirs(
    recipe_file: RecipeFile, tmp_path: Path, stub: StubServer
) -> None:
    """Five of six shards were published by an operator's ruling, with what their gate will refuse again every night."""
    gate = {"min_samples": 1, "max_share": {"*": 0.05}}
    config = recipe_file(str(tmp_path / "out"), **PICKY, execution__gate=gate)
    caption_dataset(recipe_file(str(tmp_path / "out"), **PICKY, execution__gate={"max_share": {"*": 1.0}}))
    store = Store(str(tmp_path / "out"))
    dataset = open_dataset(store)
    rejected = [unit.shard for unit in lacking(dataset, known_reasons(()), 3).rejected]
    *refused, last = rejected
    for shard in refused:
        store.put(f"{Unit(shard, 1).quarantine_prefix}/a.json", b"{}")
    found = lacking(dataset, known_reasons(()), 3)
    assert found.rejected == (Unit(last, 1), *(Unit(shard, 1) for shard in refused)), "the hopeless come last"
    assert found.refused == {Unit(shard, 1) for shard in refused}
    assert found.quarantined == ()
    with suppress(ShardQuarantinedError):
        resume_failed(config)
    tried = {unit.shard for unit in list_units(store) if unit.revision == 1}
    tried |= {unit.shard for unit in quarantined_units(store) if unit.revision == 1}
    assert tried == set(rejected), "every one was tried: a refusal that was expected is no sign that all will fail"
