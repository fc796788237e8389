"""`prefect.yaml` on a real server with a database of its own, and a dataset worked by real workers through it."""

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from jsonschema import Draft7Validator
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterName
from prefect.client.schemas.objects import TERMINAL_STATES, FlowRun, StateType

from caprl_core.recipe.load import load_recipe
from caprl_core.shards.dataset import open_dataset
from caprl_core.shards.progress import progress
from caprl_core.shards.verify import verify
from caprl_core.storage.store import Store
from caprl_core.world.stub_server import StubBehaviour, StubServer
from flows.embedded import DEFAULTS
from support.prefect_commands import OF_A_WORKER, start_worker
from support.prefect_server import Server, own_server

RecipeFile = Callable[..., str]
ROOT = Path(__file__).parents[2]
TEMPLATE = ROOT / "docs" / "kubernetes-job-template.json"
POOLS = {
    "caption-dataset": "cpu-pool",
    "caption-shards": "gpu-pool",
    "sweep": "cpu-pool",
    "curate-qa": "gpu-pool",
    "train-captioner": "gpu-pool",
    "evaluate-captions": "gpu-pool",
    "build-factory": "gpu-pool",
    "resume-failed": "gpu-pool",
    "retry-rejected": "gpu-pool",
}
SCHEDULES = {
    "caption-dataset": "0 2 * * *",
    "resume-failed": "0 3 * * *",
    "sweep": "30 5 * * *",
    "evaluate-captions": "0 4 * * 0",
}


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One machine: a server that knows our deployments, and whatever is run against it."""
    with own_server(tmp_path_factory.mktemp("prefect-home")) as server:
        server.environment |= OF_A_WORKER
        server.prefect("work-pool", "create", "cpu-pool", "--type", "process")
        server.prefect("work-pool", "create", "gpu-pool", "--type", "process")
        server.prefect("deploy", "--all")
        yield server


def test_every_flow_has_a_deployment_which_the_server_takes(box: Server) -> None:
    assert {item.name for item in box.client.read_deployments()} == POOLS.keys()
    for name, pool in POOLS.items():
        deployment = box.client.read_deployment_by_name(f"{name}/{name}")
        assert deployment.work_pool_name == pool
        assert "caprl" in deployment.tags
        assert (ROOT / deployment.parameters["config"]).is_file()
        expected = [SCHEDULES[name]] if name in SCHEDULES else []
        assert [str(one.schedule.cron) for one in deployment.schedules] == expected  # type: ignore[union-attr]
        assert not any(one.active for one in deployment.schedules)
        assert deployment.pull_steps == [{"prefect.deployments.steps.set_working_directory": {"directory": str(ROOT)}}]
        limit = deployment.global_concurrency_limit
        if name == "caption-shards":
            assert limit is None, "lanes are limited by their workers"
        else:
            assert limit is not None
            assert limit.limit == 1
            assert deployment.concurrency_options.collision_strategy.value == "ENQUEUE"


def test_every_flow_of_this_repository_is_deployed() -> None:
    import yaml

    deployed = {item["entrypoint"] for item in yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]}
    flows = {path for path in (ROOT / "flows").glob("*.py") if "\n@flow(" in path.read_text()}
    assert {entrypoint.partition(":")[0] for entrypoint in deployed} == {f"flows/{path.name}" for path in flows}


def test_runs_started_by_hand_send_heartbeats_as_often_as_deployed_ones() -> None:
    """On a server with the automation of docs/silent-runs.yaml they would be called crashed otherwise."""
    name = "PREFECT_FLOWS_HEARTBEAT_FREQUENCY"
    deployed = yaml.safe_load((ROOT / "prefect.yaml").read_text())["definitions"]["environment"][name]
    assert DEFAULTS[name] == deployed == "30"
    assert yaml.safe_load((ROOT / "docs" / "silent-runs.yaml").read_text())["trigger"]["within"] == 3 * int(deployed)


def test_the_server_takes_the_automation_and_the_kubernetes_template(box: Server) -> None:
    box.prefect("automation", "create", "--from-file", "docs/silent-runs.yaml")
    box.prefect("work-pool", "create", "k8s-gpu", "--type", "kubernetes", "--base-job-template", str(TEMPLATE))
    stored = box.client.read_work_pool("k8s-gpu").base_job_template
    assert stored["job_configuration"] == json.loads(TEMPLATE.read_text())["job_configuration"]


def test_the_server_refuses_the_template_with_a_variable_too_few(box: Server, tmp_path: Path) -> None:
    template = json.loads(TEMPLATE.read_text())
    del template["variables"]["properties"]["gpus"]
    (tmp_path / "broken.json").write_text(json.dumps(template))
    with pytest.raises(AssertionError, match="gpus"):
        box.prefect(
            "work-pool",
            "create",
            "k8s-broken",
            "--type",
            "kubernetes",
            "--base-job-template",
            f"{tmp_path}/broken.json",
        )


def test_the_kubernetes_template_keeps_what_prefects_own_worker_needs() -> None:
    import prefect

    views = Path(prefect.__file__).parent / "server" / "api" / "collections_data" / "views"
    shipped = json.loads((views / "aggregate-worker-metadata.json").read_text())
    theirs = shipped["prefect-kubernetes"]["kubernetes"]["default_base_job_configuration"]
    ours = json.loads(TEMPLATE.read_text())
    assert ours["job_configuration"].keys() == theirs["job_configuration"].keys()
    assert ours["variables"]["properties"].keys() > theirs["variables"]["properties"].keys()
    for name, variable in theirs["variables"]["properties"].items():
        assert ours["variables"]["properties"][name].get("type") == variable.get("type")
    schema = ours["variables"]
    Draft7Validator.check_schema(schema)
    defaults = {name: item["default"] for name, item in schema["properties"].items() if "default" in item}
    Draft7Validator(schema).validate(defaults)
    assert not Draft7Validator(schema).is_valid(defaults | {"gpus": -1})


@pytest.fixture
def workers(box: Server, bucket: str, tmp_path: Path) -> Iterator["Workers"]:
    box.environment |= {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    some = Workers(box, tmp_path)
    some.start("cpu-pool")
    some.start("gpu-pool", "fake0")
    yield some
    some.stop()


class Workers:
    """Real `prefect worker start` processes; gpu workers by their device."""

    def __init__(self, box: Server, logs: Path) -> None:
        self._box = box
        self._logs = logs
        self._processes: dict[str, psutil.Popen] = {}

    def start(self, pool: str, device: str = "") -> None:
        limit = ("--limit", "1") if device else ()
        log = self._logs / f"{pool}{device}.log"
        environment = self._box.environment | {"CUDA_VISIBLE_DEVICES": device}
        self._processes[device] = start_worker(pool, *limit, environment=environment, log=log)

    def lanes(self) -> dict[int, str]:
        """Pid -> device of the flow runs that gpu workers have in processes."""
        found = {}
        for device in self._processes:
            for process in self._children(device) if device else ():
                try:
                    environment = process.environ()
                except psutil.Error:
                    continue
                if "PREFECT__FLOW_RUN_ID" in environment and process.status() != psutil.STATUS_ZOMBIE:
                    found[process.pid] = environment["CUDA_VISIBLE_DEVICES"]
        return found

    def words(self) -> str:
        return "".join(path.read_text(errors="replace")[-3000:] for path in sorted(self._logs.glob("*.log")))

    def stop(self) -> None:
        """End the workers and what they started."""
        started = [child for device in self._processes for child in self._children(device, recursive=True)]
        for process in self._processes.values():
            process.terminate()
        for process in self._processes.values():
            try:
                process.wait(20)
            except psutil.TimeoutExpired:
                process.kill()
                process.wait()
        for child in started:
            if child.is_running():
                child.kill()

    def _children(self, device: str, *, recursive: bool = False) -> list[psutil.Process]:
        try:
            return self._processes[device].children(recursive=recursive)
        except psutil.Error:
            return []


def runs(box: Server, deployment: str) -> list[FlowRun]:
    wanted = DeploymentFilter(name=DeploymentFilterName(any_=[deployment]))
    return box.client.read_flow_runs(deployment_filter=wanted)


def ends(box: Server, deployment: str, known: set[Any]) -> dict[str, StateType | None]:
    """How the runs of a deployment stand that are not `known`."""
    return {str(run.id): run.state_type for run in runs(box, deployment) if run.id not in known}


def eventually(what: Callable[[], bool], workers: Workers, seconds: float = 200) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, workers.words()
        time.sleep(0.2)


RUNNER = {"shards_in_flight": 2, "window": 4, "flush_s": 0.1, "decode_workers": 1}


@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_dataset_goes_through_real_workers_while_one_joins_late_and_one_lane_is_killed(
    box: Server, recipe_file: RecipeFile, bucket: str, stub: StubServer, workers: Workers
) -> None:
    stub.behaviour = StubBehaviour(median_s=8.0, sigma=0.1)  # slow enough to join while the first lane is at work
    config = recipe_file(f"s3://{bucket}/drawn", execution__runner=RUNNER)
    before = {run.id for name in ("caption-dataset", "caption-shards") for run in runs(box, name)}
    box.prefect("deployment", "run", "caption-dataset/caption-dataset", "-p", f"config={config}", "-p", "lanes=2")

    eventually(lambda: bool(workers.lanes()), workers)
    workers.start("gpu-pool", "fake1")
    eventually(lambda: sorted(workers.lanes().values()) == ["fake0", "fake1"] and stub.replies > 2, workers)
    victim = next(pid for pid, device in workers.lanes().items() if device == "fake0")
    killed = psutil.Process(victim).environ()["PREFECT__FLOW_RUN_ID"]
    psutil.Process(victim).kill()
    stub.behaviour = StubBehaviour(median_s=0.1, sigma=0.1)

    def over() -> bool:
        alive = workers.lanes()
        assert len(set(alive.values())) == len(alive), f"one GPU, two lanes: {alive}"
        return all(state in TERMINAL_STATES for state in ends(box, "caption-dataset", before).values())

    eventually(over, workers)
    assert set(ends(box, "caption-dataset", before).values()) == {StateType.COMPLETED}, workers.words()
    lanes = ends(box, "caption-shards", before)
    assert 3 <= len(lanes) < 6, "a lane for each shard"
    names = {run.name for run in runs(box, "caption-shards") if run.id not in before}
    assert names == {f"drawn lane {number}" for number in range(1, len(lanes) + 1)}
    assert lanes.pop(killed) == StateType.CRASHED
    assert set(lanes.values()) == {StateType.COMPLETED}
    recipe = load_recipe(config)
    report = verify(open_dataset(Store(recipe.execution.output), recipe), deep=True)
    assert report.sound, report.problems
    assert (report.rows, report.pending, report.unpublished) == (60, 0, 0)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_cancelling_the_run_cancels_its_lanes(
    box: Server, recipe_file: RecipeFile, bucket: str, stub: StubServer, workers: Workers
) -> None:
    stub.behaviour = StubBehaviour(median_s=3.0, sigma=0.1)
    config = recipe_file(f"s3://{bucket}/drawn", execution__runner=RUNNER)
    before = {run.id for name in ("caption-dataset", "caption-shards") for run in runs(box, name)}
    box.prefect("deployment", "run", "caption-dataset/caption-dataset", "-p", f"config={config}", "-p", "lanes=2")
    eventually(lambda: stub.replies > 4, workers)
    [parent] = ends(box, "caption-dataset", before)
    assert len(ends(box, "caption-shards", before)) == 2, "one at work, one waiting"
    box.prefect("flow-run", "cancel", parent)

    def cancelled(deployment: str) -> bool:
        return set(ends(box, deployment, before).values()) == {StateType.CANCELLED}

    eventually(lambda: cancelled("caption-dataset") and cancelled("caption-shards"), workers)
    eventually(lambda: not workers.lanes(), workers)
    asked = len(stub.requests)
    time.sleep(4)
    assert len(stub.requests) == asked, "somebody still asks"
    recipe = load_recipe(config)
    dataset = open_dataset(Store(recipe.execution.output), recipe)
    assert progress(dataset, recipe.execution.cost).logged_samples > 0, "what was done is kept"
