"""What this project starts listens to this machine alone, unless it is told otherwise.

Each test starts real servers and reads which sockets their processes listen on.
"""

import importlib.util
import ipaddress
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import yaml

from caprl_core.engines.server import VllmServer
from caprl_core.engines.vllm import VllmEngine
from caprl_core.recipe.models import EngineExecution, ModelRecipe
from caprl_core.world.s3_server import s3_server
from caprl_core.world.stub_server import StubBehaviour, StubServer
from caprl_core.world.tiny_captioner import build_tiny_captioner
from flows.local_server import LocalServer
from support.drawn_dataset import draw_pictures, recipe_for
from support.postgres_server import PostgresServer
from support.prefect_on_postgres import PrefectServer
from support.stub_thread import running_stub


def listening(*pids: int) -> set[tuple[str, int]]:
    """Address and port of every TCP socket that these processes, or what they started, listen on."""
    found = set()
    for pid in pids or (os.getpid(),):
        for process in family(pid):
            try:
                connections = process.net_connections("inet")
            except psutil.Error:
                continue
            found |= {(one.laddr.ip, one.laddr.port) for one in connections if one.status == psutil.CONN_LISTEN}
    return found


def family(pid: int) -> list[psutil.Process]:
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def reached_from_outside(sockets: set[tuple[str, int]]) -> set[tuple[str, int]]:
    return {(ip, port) for ip, port in sockets if not ipaddress.ip_address(ip).is_loopback}


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def port_of(url: str) -> int:
    return int(url.split(":")[2].split("/", maxsplit=1)[0])


@pytest.fixture
def stub() -> Iterator[StubServer]:
    with running_stub(StubBehaviour(median_s=0.5, sigma=0.1)) as server:
        yield server


def test_a_socket_on_every_address_is_seen() -> None:
    before = reached_from_outside(listening())
    with socket.socket() as one, socket.socket(socket.AF_INET6) as other:
        one.bind(("0.0.0.0", 0))
        other.bind(("::", 0))
        one.listen()
        other.listen()
        assert {ip for ip, _ in reached_from_outside(listening()) - before} == {"0.0.0.0", "::"}


def test_the_servers_of_a_run_and_of_the_demo(stub: StubServer) -> None:
    with LocalServer() as prefect, s3_server() as store:
        wanted = {port_of(prefect.wait()), port_of(store), port_of(stub.url)}
        found = listening()
    assert wanted <= {port for _, port in found}
    assert not reached_from_outside(found)


def test_a_run_with_metrics(tmp_path: Path, stub: StubServer) -> None:
    port = free_port()
    recipe = recipe_for(
        draw_pictures(tmp_path / "images", 40),
        str(tmp_path / "out"),
        execution__engine={"kind": "openai", "urls": [stub.url], "served_name": "stub", "concurrency": 2},
        execution__metrics={"port": port},
    )
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe.model_dump(mode="json")))
    environment = {name: value for name, value in os.environ.items() if name != "PREFECT_API_URL"}
    run = subprocess.Popen(
        [sys.executable, "-m", "flows.caption_dataset", "--config", str(tmp_path / "recipe.yaml"), "--json"],
        env=environment | {"PREFECT_HOME": str(tmp_path / "prefect")},
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    found: set[tuple[str, int]] = set()

    def metrics_are_served() -> bool:
        found.update(listening(run.pid))
        return port in {number for _, number in found}

    try:
        eventually(metrics_are_served, lambda: run.poll() is None)
    finally:
        run.terminate()
        run.wait(60)
    assert len(found) >= 2, "the Prefect server of the run, and its metrics"
    assert not reached_from_outside(found)


@pytest.mark.timeout(600)
def test_a_production_server_its_database_and_a_worker_with_a_healthcheck(tmp_path: Path) -> None:
    health = free_port()
    # What docs/operating.md says of a worker's healthcheck; without it the worker listens on every address.
    settings = {"PREFECT_WORKER_WEBSERVER_HOST": "127.0.0.1", "PREFECT_WORKER_WEBSERVER_PORT": str(health)}
    with PostgresServer() as postgres, PrefectServer(postgres.url, tmp_path) as server:
        worker = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "prefect",
                "worker",
                "start",
                "--pool",
                "p",
                "--type",
                "process",
                "--with-healthcheck",
            ],
            env=server.client_environment() | settings,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            eventually(lambda: health in {port for _, port in listening(worker.pid)}, lambda: worker.poll() is None)
            found = listening(worker.pid, server.pid, postgres.pid)
        finally:
            worker.terminate()
            worker.wait(60)
    assert {health, server.port, postgres.port} <= {port for _, port in found}
    assert not reached_from_outside(found)


vllm = [
    pytest.mark.vllm,
    pytest.mark.xdist_group("vllm"),
    pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed"),
]


@pytest.mark.parametrize("kind", [pytest.param("engine", marks=vllm), pytest.param("server", marks=vllm)])
async def test_vllm(tmp_path: Path, kind: str) -> None:
    before = listening()
    model = build_tiny_captioner(tmp_path / "tiny")
    if kind == "server":
        with VllmServer(model, arguments=["--max-model-len", "2048"], log=tmp_path / "log") as server:
            found = listening(server.process_id)
            assert port_of(server.url) in {port for _, port in found}
    else:
        settings = EngineExecution(kind="vllm", model_path=str(model), concurrency=4, max_model_len=2048)
        engine = VllmEngine(ModelRecipe(name="tiny-captioner"), settings)
        await engine.start()
        found = listening(os.getpid(), *engine.process_ids) - before
        await engine.close()
    assert not reached_from_outside(found)


def eventually(what: Callable[[], bool], alive: Callable[[], bool], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert alive(), "it ended"
        assert time.monotonic() < deadline
        time.sleep(0.1)
