"""The training flow against a real Prefect server, with real training of the embedded world's captioner."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterKey,
    FlowRunFilter,
    FlowRunFilterId,
    TaskRunFilter,
    TaskRunFilterFlowRunId,
)

from caprl_core.errors import BadInputError, IdentityMismatchError, IncompleteError
from caprl_core.recipe.load import load_training_recipe
from caprl_core.storage.store import Store
from caprl_core.training.checkpoints import newest_checkpoint, step_of
from caprl_core.training.registry import find_captioner, local_captioner
from flows.train_captioner import train_captioner
from flows.training_watching import TRAINING_WATCHER
from support.world_training import lines, world_recipe
from tasks.training import evaluate, train

pytestmark = pytest.mark.usefixtures("prefect_api")
MARK = "CAPRL_TEST_RUN"


class Trained(NamedTuple):
    """A run the flow has made once, its output on S3, for the tests that only look at it or run on top of it."""

    config: Path
    work: Path
    output: str
    summary: dict[str, Any]
    flow_run: uuid.UUID


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, prefect_api: str, s3_client: Any) -> Trained:
    folder = tmp_path_factory.mktemp("trained")
    bucket = f"test-{uuid.uuid4().hex[:16]}"
    s3_client.create_bucket(Bucket=bucket)
    output, work = f"s3://{bucket}/grpo", folder / "work"
    config = world_recipe(folder, execution__output=output, execution__work=str(work))
    state = train_captioner(str(config), return_state=True)
    assert state.state_details.flow_run_id is not None
    return Trained(config, work, output, state.result(), state.state_details.flow_run_id)


def test_a_captioner_from_questions_to_its_register(trained: Trained, tmp_path: Path) -> None:
    curve, held_out = lines(trained.work / "metrics.jsonl"), lines(trained.work / "held_out.jsonl")
    assert [line["step"] for line in curve] == [1, 2, 3, 4, 5, 6]
    rewards = {line["step"]: line["reward"] for line in held_out}
    assert sorted(rewards) == [0, 3, 6]
    summary = trained.summary
    best = max(rewards.values())
    assert summary["held_out"]["before"] == {"step": 0, "reward": rewards[0]}
    assert summary["held_out"]["last"] == {"step": 6, "reward": rewards[6]}
    assert summary["held_out"]["best"]["reward"] == best
    assert (summary["trained_to"], summary["fresh"]) == (6, True)

    found = find_captioner(trained.output)
    assert found.uri == summary["captioner"] == f"{trained.output}/captioner"
    assert found.record.step == summary["step"]
    assert found.record.held_out_reward == rewards[found.record.step] == summary["held_out_reward"]
    assert found.record.questions.images == 32
    copied = local_captioner(found, tmp_path / "copy")
    assert (copied / "model.safetensors").read_bytes() == (trained.work / "captioner/model.safetensors").read_bytes()

    page = Store(trained.output).get("report.html")
    assert summary["page"] == f"{trained.output}/report.html"
    assert page == (trained.work / "report.html").read_bytes()
    assert found.record.name.encode() in page


def test_prefect_shows_its_progress_and_its_evaluations(trained: Trained) -> None:
    with get_client(sync_client=True) as client:
        run = client.read_flow_run(trained.flow_run)
        artifacts = client.read_artifacts(
            artifact_filter=ArtifactFilter(key=ArtifactFilterKey(exists_=True)),
            flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[trained.flow_run])),
        )
    assert run.name == "grpo-world"
    bars = [item for item in artifacts if item.key == "train-captioner-grpo-world-progress"]
    assert [bar.data for bar in bars] == [100.0]
    assert "step 6/6, reward " in str(bars[0].description)
    tables = [str(item.data) for item in artifacts if item.key == "train-captioner-grpo-world-evaluations"]
    last = max(tables, key=len)
    assert "Held-out reward" in last
    assert all(f"\n| {step} | " in last for step in (0, 3, 6))

    def names() -> list[str]:
        with get_client(sync_client=True) as client:
            found = client.read_task_runs(
                task_run_filter=TaskRunFilter(flow_run_id=TaskRunFilterFlowRunId(any_=[trained.flow_run]))
            )
        return sorted(item.name for item in found)

    wanted = ["evaluate", "page", "register", "train"]
    deadline = time.monotonic() + 30
    while names() != wanted and time.monotonic() < deadline:
        time.sleep(0.1)  # the server records task runs some time after they ended
    assert names() == wanted


def test_a_registered_captioner_is_found_and_nothing_is_trained(trained: Trained, tmp_path: Path) -> None:
    logged, registered = (trained.work / "training.log").read_bytes(), Store(trained.output).get("registered.json")
    # As on another machine, which has no more than the recipe.
    document = trained.config.read_text().replace(str(trained.work), str(tmp_path / "elsewhere"))
    (tmp_path / "recipe.yaml").write_text(document)
    for config in (trained.config, tmp_path / "recipe.yaml"):
        summary = train_captioner(str(config))
        assert (summary["fresh"], summary["captioner"]) == (False, trained.summary["captioner"])
        assert summary["held_out_reward"] == trained.summary["held_out_reward"]
    assert (trained.work / "training.log").read_bytes() == logged
    assert Store(trained.output).get("registered.json") == registered
    assert not (tmp_path / "elsewhere").exists()


def test_another_recipe_is_refused_before_anything_is_trained(trained: Trained, tmp_path: Path) -> None:
    other = tmp_path / "recipe.yaml"
    other.write_text(trained.config.read_text().replace("kl: 0.2", "kl: 0.5"))
    logged = (trained.work / "training.log").read_bytes()
    with pytest.raises(IdentityMismatchError, match=r"grpo\.kl: 0\.5 here, 0\.2 there"):
        train_captioner(str(other))
    assert (trained.work / "training.log").read_bytes() == logged


def test_a_run_without_evaluations_is_told_so(trained: Trained, tmp_path: Path) -> None:
    recipe = load_training_recipe(trained.config)
    work = tmp_path / "work"
    shutil.copytree(trained.work, work, ignore=shutil.ignore_patterns("checkpoints", "sets"))
    moved = recipe.model_copy(update={"execution": recipe.execution.model_copy(update={"work": str(work)})})

    @flow(name="evaluate-alone")
    def look() -> dict[str, Any]:
        return evaluate(moved)

    assert look()["before"]["step"] == 0
    (work / "held_out.jsonl").write_text('{"step": 0, "reward": null}\n')
    with pytest.raises(IncompleteError, match="1 evaluations, none with a reward"):
        look()
    (work / "held_out.jsonl").unlink()
    with pytest.raises(IncompleteError, match="nothing is known about the captioner"):
        look()


def test_an_output_in_a_bucket_needs_a_folder_to_work_in(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"execution\.work"):
        train_captioner(str(world_recipe(tmp_path)), output="s3://somewhere/else")


def test_bad_input_is_told_once_and_not_tried_again(tmp_path: Path) -> None:
    config = world_recipe(tmp_path)
    (tmp_path / "train.parquet").write_bytes(b"no parquet")
    with pytest.raises(BadInputError, match=r"train\.parquet"):
        train_captioner(str(config))
    log = (tmp_path / "run" / "training.log").read_text()
    assert len([line for line in log.splitlines() if line.startswith("--- ")]) == 1


def test_training_that_dies_goes_on_from_its_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train, "retry_delay_seconds", [0.01, 0.01, 0.01])
    told: list[Mapping[str, Any]] = []

    def watch(event: Mapping[str, Any]) -> None:
        told.append(event)
        if [one["event"] for one in told].count("saved") == 1 and event["event"] == "saved":
            next(one for one in psutil.Process().children() if "caprl_core.training" in one.cmdline()).kill()

    token = TRAINING_WATCHER.set(watch)
    try:
        summary = train_captioner(str(world_recipe(tmp_path)))
    finally:
        TRAINING_WATCHER.reset(token)
    begins = [event for event in told if event["event"] == "begin"]
    assert [event["resumed"] for event in begins] == [False, True]
    assert begins[1]["step"] >= 2
    assert [line["step"] for line in lines(tmp_path / "run" / "metrics.jsonl")] == [1, 2, 3, 4, 5, 6]
    assert summary["trained_to"] == 6
    assert find_captioner(str(tmp_path / "run")).record.step == summary["step"]


# As a process.


class Run:
    """`python -m flows.train_captioner`; every process it starts carries a mark in its environment."""

    def __init__(self, config: Path, **environment: str) -> None:
        self._mark = uuid.uuid4().hex
        self.process = subprocess.Popen(
            [sys.executable, "-m", "flows.train_captioner", "--config", str(config), "--json"],
            env={**os.environ, **environment, MARK: self._mark},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def until(self, event: str) -> dict[str, Any]:
        """The first event of a kind."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            found: dict[str, Any] = json.loads(line)
            if found["event"] == event:
                return found
        raise AssertionError(f"ended without {event!r}: {self.process.stderr.read()}")  # type: ignore[union-attr]

    def end(self) -> tuple[int, list[dict[str, Any]]]:
        """Exit code and the remaining events."""
        out, _ = self.process.communicate(timeout=300)
        return self.process.returncode, [json.loads(line) for line in out.splitlines()]

    def left_behind(self) -> list[psutil.Process]:
        """Processes of this run that still live."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get(MARK) == self._mark and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def gone(self) -> bool:
        """None is left, given the helpers' moment to notice."""
        deadline = time.monotonic() + 30
        while self.left_behind() and time.monotonic() < deadline:
            time.sleep(0.1)
        return not self.left_behind()


@pytest.fixture
def start(prefect_api: str) -> Iterator[Callable[[Path], Run]]:
    runs: list[Run] = []

    def begin(config: Path) -> Run:
        runs.append(Run(config, PREFECT_API_URL=prefect_api))
        return runs[-1]

    yield begin
    for run in runs:
        for process in run.left_behind():
            process.kill()
        run.process.communicate()


def test_a_signal_leaves_a_whole_checkpoint_and_the_same_command_finishes(
    tmp_path: Path, start: Callable[[Path], Run]
) -> None:
    config, folder = world_recipe(tmp_path, execution__checkpoint_every=100, evaluation__every=100), tmp_path / "run"
    run = start(config)
    run.until("step")
    run.process.send_signal(signal.SIGTERM)
    run.process.send_signal(signal.SIGTERM)  # an impatient operator does no harm
    code, events = run.end()
    assert code == 143
    told = [event["event"] for event in events]
    assert told[-1] == "stopped"
    assert events[-1] == {"event": "stopped", "signal": "SIGTERM"}
    assert told.index("stopping") < told.index("saved")
    assert run.gone(), run.left_behind()
    saved = newest_checkpoint(folder / "checkpoints")
    assert saved is not None
    assert 1 <= step_of(saved) < 6
    assert not (folder / "registered.json").exists()

    again = start(config)
    begun = again.until("begin")
    assert (begun["resumed"], begun["step"]) == (True, step_of(saved))
    code, events = again.end()
    assert code == 0
    assert events[-1]["event"] == "summary"
    assert [line["step"] for line in lines(folder / "metrics.jsonl")] == [1, 2, 3, 4, 5, 6]
    assert find_captioner(str(folder)).record.step == events[-1]["step"]
    assert again.gone()


def test_a_killed_run_leaves_no_process(tmp_path: Path, start: Callable[[Path], Run]) -> None:
    run = start(world_recipe(tmp_path))
    run.until("step")
    run.process.send_signal(signal.SIGKILL)
    assert run.process.wait() == -signal.SIGKILL
    assert run.gone(), run.left_behind()


def test_a_mistyped_recipe_ends_with_2_before_anything_starts(tmp_path: Path, start: Callable[[Path], Run]) -> None:
    config = tmp_path / "recipe.yaml"
    config.write_text("policy: {}\nsteps: none\n")
    code, events = start(config).end()
    assert code == 2
    assert [event["event"] for event in events] == ["error"]
    assert "steps" in events[0]["error"]
