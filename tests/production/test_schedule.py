"""`resume-failed` on a schedule: rejected samples are asked again although nobody gives a command."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from caprl_core.captioning.stage import CaptionStage
from caprl_core.engines.open import open_engine
from caprl_core.recipe.models import CaptionRecipe
from caprl_core.shards.dataset import open_dataset
from caprl_core.shards.lane import Lane
from caprl_core.shards.progress import unfinished_units
from caprl_core.shards.verify import VerifyReport, verify
from caprl_core.storage.commit import list_units
from caprl_core.storage.layout import Unit
from caprl_core.storage.store import Store
from caprl_core.world.stub_server import StubBehaviour, StubServer
from support.drawn_dataset import draw_pictures, planned, recipe_for
from support.postgres_server import PostgresServer
from support.prefect_box import PrefectBox
from support.prefect_on_postgres import PrefectServer
from support.stub_thread import running_stub

pytestmark = [pytest.mark.production, pytest.mark.timeout(600)]
SAMPLES, REJECTED = 60, 7
DEPLOYMENT = "resume-failed/resume-failed"


@pytest.fixture
def box(tmp_path: Path, bucket: str) -> Iterator[PrefectBox]:
    often = {"PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "5"}
    with PostgresServer() as postgres, PrefectServer(postgres.url, tmp_path, settings=often) as server:
        yield PrefectBox(server, tmp_path, os.environ)


@pytest.fixture
def stub() -> Iterator[StubServer]:
    """It refuses the first requests, then answers all."""
    with running_stub(StubBehaviour(script=["400"] * REJECTED)) as server:
        yield server


@pytest.fixture
def recipe(tmp_path: Path, bucket: str, stub: StubServer) -> CaptionRecipe:
    """A dataset of 6 shards, worked already; some samples were rejected."""
    engine = {"kind": "openai", "urls": [stub.url], "served_name": "stub", "concurrency": 4, "dead_after_s": 0.5}
    made = recipe_for(
        draw_pictures(tmp_path / "images", SAMPLES),
        f"s3://{bucket}/drawn",
        dataset__shard_samples=10,
        execution__engine=engine,
        execution__gate={"max_share": {"*": 1.0}},
    )
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(made.model_dump(mode="json")))
    dataset = planned(made)
    with Lane(made, dataset, CaptionStage(made), open_engine) as lane:
        for unit in unfinished_units(dataset):
            lane.run(unit)
    return made


def check(recipe: CaptionRecipe) -> VerifyReport:
    report = verify(open_dataset(Store(recipe.execution.output), recipe), deep=True)
    assert report.sound, report.problems
    return report


def test_a_schedule_picks_up_rejected_samples_by_itself(
    box: PrefectBox, recipe: CaptionRecipe, stub: StubServer, tmp_path: Path
) -> None:
    before = check(recipe)
    assert (before.rows, before.rejected) == (SAMPLES - REJECTED, REJECTED)
    asked = len(stub.requests)
    box.deploy(config=str(tmp_path / "recipe.yaml"))
    # Every 15 seconds; with --no-active as every schedule of prefect.yaml is, then switched on as docs/deploy.md says.
    box.prefect("deployment", "schedule", "create", DEPLOYMENT, "--interval", "15", "--no-active", "--replace", "-y")
    assert not box.runs("resume-failed")
    with box.server.http() as client:
        [schedule] = client.get(f"/deployments/name/{DEPLOYMENT}").json()["schedules"]
    assert not schedule["active"]
    box.prefect("deployment", "schedule", "resume", DEPLOYMENT, schedule["id"])

    with box.worker("gpu-pool", "--limit", "1"):
        box.eventually(lambda: len(box.runs("resume-failed", "COMPLETED")) >= 2)
    box.prefect("deployment", "schedule", "pause", DEPLOYMENT, schedule["id"])

    assert not box.runs("resume-failed", "FAILED", "CRASHED"), box.words()
    first, second, *_ = box.runs("resume-failed", "COMPLETED")
    assert all(run["auto_scheduled"] for run in (first, second)), "nobody gave a command"
    after = check(recipe)
    assert (after.rows, after.rejected) == (SAMPLES, 0)
    revised = {unit.shard for unit in list_units(Store(recipe.execution.output)) if unit.revision == 1}
    assert {run["name"] for run in tasks_of(box, first)} == {f"shard-{shard:06d}.r1" for shard in revised}
    assert len(stub.requests) == asked + REJECTED, "each of them once"
    assert not tasks_of(box, second), "nothing is left to do, so nothing is begun"
    assert set(list_units(Store(recipe.execution.output))) == {Unit(shard, 0) for shard in range(6)} | {
        Unit(shard, 1) for shard in revised
    }


def tasks_of(box: PrefectBox, run: dict[str, str]) -> list[dict[str, str]]:
    found: list[dict[str, str]] = box.ask("/task_runs/filter", flow_runs={"id": {"any_": [run["id"]]}})
    return found
