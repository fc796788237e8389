"""The captioning flow against a real Prefect server and a real S3: one bad shard costs itself, the bucket decides."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterKey,
    FlowRunFilter,
    FlowRunFilterId,
)
from prefect.client.schemas.objects import FlowRun, State

from caprl_core.errors import BadInputError, IdentityMismatchError, IncompleteError, ShardQuarantinedError
from caprl_core.recipe.load import load_recipe
from caprl_core.shards import gate
from caprl_core.shards.dataset import open_dataset
from caprl_core.shards.verify import VerifyReport, verify
from caprl_core.storage.commit import list_units, read_commit
from caprl_core.storage.layout import Unit
from caprl_core.storage.store import Store
from caprl_core.world.stub_server import StubBehaviour, StubServer
from flows.caption_dataset import caption_dataset
from flows.retry_rejected import retry_rejected
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


def final(state: State[Any]) -> FlowRun:
    """The flow run as the server has it."""
    assert state.state_details.flow_run_id is not None
    with get_client(sync_client=True) as client:
        return client.read_flow_run(state.state_details.flow_run_id)


def artifacts(flow_run: FlowRun) -> dict[str, Any]:
    with get_client(sync_client=True) as client:
        found = client.read_artifacts(
            artifact_filter=ArtifactFilter(key=ArtifactFilterKey(exists_=True)),
            flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[flow_run.id])),
        )
    return {str(item.key): item for item in found}


def spoil(images: Path, first: int, last: int) -> None:
    """Pictures that do not decode; 10 make a shard."""
    for path in sorted(images.iterdir())[first:last]:
        path.write_bytes(b"no picture at all")


def test_a_dataset_on_s3_from_pictures_to_verified_shards(
    recipe_file: RecipeFile, bucket: str, stub: StubServer
) -> None:
    config = recipe_file(f"s3://{bucket}/drawn")
    state = caption_dataset(config, return_state=True)
    summary = state.result()
    assert (summary["rows"], summary["rejected"], summary["shards_committed"]) == (60, 0, 6)
    assert (summary["samples_asked"], summary["samples_resumed"]) == (60, 0)
    assert summary["completion_tokens"] > 0
    report = check(config)
    assert (report.rows, report.pending, report.unpublished) == (60, 0, 0)
    assert len(set(seeds(stub))) == len(stub.requests) == 60
    run = final(state)
    assert run.name == "drawn"
    shown = artifacts(run)
    assert shown["caption-dataset-drawn-progress"].data == 100.0
    assert "committed" in str(shown["caption-dataset-drawn-shards"].data)
    assert "| rows | 60 |" in str(shown["caption-dataset-drawn-summary"].data)


def test_a_finished_dataset_is_left_alone(recipe_file: RecipeFile, tmp_path: Path, stub: StubServer) -> None:
    config = recipe_file(str(tmp_path / "out"))
    caption_dataset(config)
    asked = len(stub.requests)
    summary = caption_dataset(config)
    assert summary["shards_committed"] == 0
    assert summary["samples_done"] == 60
    assert len(stub.requests) == asked


def test_max_shards_ends_early_and_the_next_run_goes_on(recipe_file: RecipeFile, tmp_path: Path) -> None:
    config = recipe_file(str(tmp_path / "out"))
    summary = caption_dataset(config, max_shards=2)
    assert (summary["samples_done"], summary["samples"], summary["shards_committed"]) == (20, 60, 2)
    assert list_units(Store(str(tmp_path / "out"))) == [Unit(0, 0), Unit(1, 0)]
    assert caption_dataset(config)["shards_committed"] == 4
    assert check(config).rows == 60


def test_output_replaces_the_recipes(recipe_file: RecipeFile, tmp_path: Path) -> None:
    config = recipe_file(str(tmp_path / "out"))
    summary = caption_dataset(config, output=str(tmp_path / "elsewhere"), max_shards=1)
    assert summary["uri"] == str(tmp_path / "elsewhere")
    assert not (tmp_path / "out").exists()


def test_a_quarantined_shard_stops_no_other_and_is_released_by_hand(
    recipe_file: RecipeFile, images: Path, tmp_path: Path, stub: StubServer
) -> None:
    config = recipe_file(str(tmp_path / "out"), execution__gate={"min_samples": 5})
    spoil(images, 20, 30)
    state = caption_dataset(config, return_state=True)
    assert state.is_failed()
    error = state.result(raise_on_failure=False)
    assert isinstance(error, ShardQuarantinedError)
    assert "1 of 6 shards did not commit" in str(error)
    assert "caprl status" in str(error)
    store = Store(str(tmp_path / "out"))
    assert {unit.shard for unit in list_units(store)} == {0, 1, 3, 4, 5}
    assert "quarantined" in str(artifacts(final(state))["caption-dataset-drawn-shards"].data)

    gate.accept(store, Unit(2, 0))
    asked = len(stub.requests)
    summary = caption_dataset(config)
    assert (summary["rows"], summary["rejected"], summary["reasons"]) == (0, 10, {"image_corrupt": 10})
    assert len(stub.requests) == asked
    assert check(config).pending == 0


def test_a_quarantine_is_not_retried(recipe_file: RecipeFile, images: Path, tmp_path: Path) -> None:
    config = recipe_file(str(tmp_path / "out"), execution__gate={"min_samples": 5})
    spoil(images, 0, 10)
    with pytest.raises(ShardQuarantinedError):
        caption_dataset(config, max_shards=1)
    assert [len(keys) for keys in gate.quarantined_units(Store(str(tmp_path / "out"))).values()] == [1]


def test_a_shard_the_store_refuses_fails_alone_and_its_log_is_kept(
    recipe_file: RecipeFile, tmp_path: Path, stub: StubServer
) -> None:
    config = recipe_file(str(tmp_path / "out"))
    obstacle = tmp_path / "out" / "commits" / "000001.r000.json" / "in the way"
    obstacle.mkdir(parents=True)
    with pytest.raises(IncompleteError, match=r"(?s)1 of 6 shards did not commit.*Failed: 1;.*resume"):
        caption_dataset(config)
    assert {unit.shard for unit in list_units(Store(str(tmp_path / "out")))} == {0, 2, 3, 4, 5}
    asked = seeds(stub)
    obstacle.rmdir()
    obstacle.parent.rmdir()
    summary = caption_dataset(config)
    assert summary["shards_committed"] == 1
    assert summary["samples_resumed"] + summary["samples_asked"] == 10
    assert not set(asked) & set(seeds(stub)[len(asked) :]), "a sample of the log was asked again"
    assert check(config).rows == 60


def test_a_dead_engine_ends_the_run_instead_of_failing_every_shard(
    recipe_file: RecipeFile, tmp_path: Path, stub: StubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work_shard, "retries", 0)
    stub.behaviour = StubBehaviour(rates={"500": 1.0})
    config = recipe_file(str(tmp_path / "out"), dataset__shard_samples=2)
    with pytest.raises(IncompleteError, match=r"(?s)EngineDeadError.*failed in a row, so the rest was not tried"):
        caption_dataset(config)
    stub.behaviour = StubBehaviour()
    assert caption_dataset(config)["rows"] == 60


def test_another_recipe_is_refused_with_the_field_named(recipe_file: RecipeFile, tmp_path: Path) -> None:
    caption_dataset(recipe_file(str(tmp_path / "out")), max_shards=1)
    other = recipe_file(str(tmp_path / "out"), prompt__text="What is this?", sampling__top_p=0.5)
    with pytest.raises(IdentityMismatchError) as refused:
        caption_dataset(other)
    assert "prompt.text" in str(refused.value)
    assert "sampling.top_p" in str(refused.value)
    assert "sampling.seed" not in str(refused.value)


def test_other_execution_settings_are_accepted(recipe_file: RecipeFile, tmp_path: Path) -> None:
    caption_dataset(recipe_file(str(tmp_path / "out")), max_shards=1)
    changed = recipe_file(
        str(tmp_path / "out"), execution__runner={"shards_in_flight": 1, "window": 3, "decode_workers": 1}
    )
    assert caption_dataset(changed)["shards_committed"] == 5
    assert check(changed).rows == 60


def test_rejected_samples_are_asked_again_in_a_superseding_revision(
    recipe_file: RecipeFile, tmp_path: Path, stub: StubServer
) -> None:
    config = recipe_file(
        str(tmp_path / "out"),
        dataset__shard_samples=20,
        checks={"max_attempts": 1, "min_characters": 120},
        execution__gate={"max_share": {"*": 1.0}},
    )
    first = caption_dataset(config)
    assert first["reasons"] == {"empty": first["rejected"]}
    assert 0 < first["rejected"] < 60
    asked = seeds(stub)
    summary = retry_rejected(config, reasons=["empty"])
    again = seeds(stub)[len(asked) :]
    assert len(again) == summary["samples_asked"] == first["rejected"]
    assert not set(again) & set(asked), "a failed seed was used again"
    assert summary["rejected"] < first["rejected"]
    store = Store(str(tmp_path / "out"))
    assert read_commit(store, Unit(0, 1)).supersedes == 0
    report = check(config)
    assert (report.rows, report.revisions) == (60 - summary["rejected"], 3)


def test_retrying_an_unknown_reason_is_refused(recipe_file: RecipeFile, tmp_path: Path) -> None:
    config = recipe_file(str(tmp_path / "out"))
    with pytest.raises(BadInputError, match="known are"):
        retry_rejected(config, reasons=["too_boring"])


def test_task_runs_are_named_after_their_shards(recipe_file: RecipeFile, tmp_path: Path) -> None:
    from prefect.client.schemas.filters import TaskRunFilter, TaskRunFilterFlowRunId

    config = recipe_file(str(tmp_path / "out"))
    state = caption_dataset(config, max_shards=2, return_state=True)
    run = final(state)

    def names() -> list[str]:
        with get_client(sync_client=True) as client:
            found = client.read_task_runs(
                task_run_filter=TaskRunFilter(flow_run_id=TaskRunFilterFlowRunId(any_=[run.id]))
            )
        return sorted(item.name for item in found)

    assert eventually(names, lambda found: len(found) == 3) == ["plan", "shard-000000", "shard-000001"]


def eventually(look: Callable[[], Any], enough: Callable[[Any], bool]) -> Any:
    """The server records task runs some time after they ended."""
    import time

    for _ in range(200):
        found = look()
        if enough(found):
            return found
        time.sleep(0.1)
    return look()
