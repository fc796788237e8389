"""A whole plant on one machine: Prefect on PostgreSQL, Ceph, workers with fake GPUs, a stub in place of the model."""

import base64
import contextlib
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

import psutil
import pytest
import yaml
from lane_watch import RUN_ID, DeviceWatch, EngineBook

from caprl_core.engines.reaper import Reaper, kill_marked
from caprl_core.errors import StoreError
from caprl_core.recipe.models import CaptionRecipe
from caprl_core.storage.commit import list_units
from caprl_core.storage.store import Store
from caprl_core.world.stub_server import StubServer
from support.ceph_gateway import CephGateway
from support.drawn_dataset import draw_pictures, recipe_for
from support.postgres_server import PostgresServer
from support.prefect_commands import OF_A_WORKER, run_prefect, start_worker
from support.prefect_on_postgres import PrefectServer
from support.stub_thread import seeds

BUCKET = "plant"
SHARDS, SHARD_SAMPLES = 40, 10
CONCURRENCY = 4
"""Requests a lane has in flight."""
RUNNER = {"shards_in_flight": 2, "window": 4, "flush_s": 0.2, "decode_workers": 1}
LEASES = {"PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem"}
"""In memory, its default, they die with the server, and a run whose deployment has a limit ends some minutes later."""
POOLS = ("cpu-pool", "gpu-pool")


class Plant:
    """Everything that may die, each with its own handle, and what is counted from outside. Sets AWS_* for its life."""

    def __init__(self, folder: Path, stub: StubServer) -> None:
        self.folder = folder
        self.stub = stub
        self.engines = EngineBook(stub)
        self.starts = self.engines.starts
        self.logs = folder / "logs"
        self.logs.mkdir()
        self.ceph = CephGateway(folder / "ceph")
        self.postgres = PostgresServer()
        self.server = PrefectServer(self.postgres.url, folder, settings=LEASES)
        self.workers: dict[str, psutil.Popen] = {}
        self.watch = DeviceWatch(self.engines)
        self._reaper = Reaper()
        self._parts = contextlib.ExitStack()
        self._patch = pytest.MonkeyPatch()
        self.environment: dict[str, str] = {}
        self._config = folder / "recipe.yaml"

    def __enter__(self) -> Self:
        with self._parts:
            self._parts.callback(self._patch.undo)
            # The store's daemons mostly wait for one another, so they may start beside the rest.
            self._parts.push(self.ceph)
            with ThreadPoolExecutor() as beside:
                store = beside.submit(self.ceph.__enter__)
                self._parts.enter_context(self.postgres)
                self._parts.enter_context(self.server)
                store.result()
            self.ceph.client().create_bucket(Bucket=BUCKET)
            self.environment = self.server.client_environment() | self.ceph.environment() | OF_A_WORKER
            self._reaper.start()
            self._parts.callback(self._reaper.stop)
            self._parts.callback(kill_marked, self._reaper.mark)
            self.environment |= self._reaper.environment()
            self.recipe = self._recipe()
            for name, value in self.ceph.environment().items():
                self._patch.setenv(name, value)
            self.store = Store(self.recipe.execution.output)
            with ThreadPoolExecutor() as both:
                list(both.map(lambda pool: self.prefect("work-pool", "create", pool, "--type", "process"), POOLS))
            self.prefect("deploy", "--all")
            self.prefect("automation", "create", "--from-file", "docs/silent-runs.yaml")
            self._parts.enter_context(self.watch.of(self._reaper.mark))
            self._parts = self._parts.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._parts.close()

    def _recipe(self) -> CaptionRecipe:
        # The key is the flow run's id, so that the stub knows which lane asks.
        engine = {"kind": "openai", "urls": [self.stub.url], "served_name": "stub", "api_key_env": RUN_ID}
        recipe = recipe_for(
            draw_pictures(self.folder / "images", SHARDS * SHARD_SAMPLES),
            f"s3://{BUCKET}/drawn",
            dataset__shard_samples=SHARD_SAMPLES,
            execution__engine=engine | {"concurrency": CONCURRENCY, "dead_after_s": 0.5},
            execution__runner=RUNNER,
        )
        self._config.write_text(yaml.safe_dump(recipe.model_dump(mode="json")))
        return recipe

    def prefect(self, *arguments: str) -> str:
        """Run a command of Prefect's as an operator does."""
        return run_prefect(*arguments, environment=self.environment, log=self.logs / "commands.log")

    def run(self, flow: str, *arguments: str) -> None:
        """Start a run of a deployment with this plant's recipe."""
        self.prefect("deployment", "run", f"{flow}/{flow}", "-p", f"config={self._config}", *arguments)

    def start_worker(self, pool: str, device: str = "") -> None:
        """A worker; those of the gpu pool have a device and take one run at a time."""
        limit = ["--limit", "1"] if device else []
        log = self.logs / f"worker-{pool}-{device}.log"
        environment = self.environment | {"CUDA_VISIBLE_DEVICES": device}
        self.workers[device] = start_worker(pool, *limit, environment=environment, log=log)

    def kill_worker(self, device: str) -> None:
        """SIGKILL a worker, and nothing that it started."""
        self.workers[device].kill()
        self.workers[device].wait()

    def kill_lane(self, device: str) -> str:
        """SIGKILL the process of the flow run on a device; returns the run's id."""
        for process in self.workers[device].children():
            with contextlib.suppress(psutil.Error):
                if (run := process.environ().get(RUN_ID)) is not None:
                    process.kill()
                    return run
        raise AssertionError(f"no lane on {device}:\n{self.words()}")

    def states(self, flow: str) -> dict[str, str]:
        """Run -> type of its state, from the server."""
        query = {"deployments": {"name": {"any_": [flow]}}}
        with self.server.http() as client:
            found = client.post("/flow_runs/filter", json=query).raise_for_status().json()
        return {run["id"]: run["state_type"] for run in found}

    def over(self, flow: str) -> bool:
        """Whether every run of this deployment has ended."""
        states = self.states(flow).values()
        return bool(states) and {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}.issuperset(states)

    def counts(self) -> dict[str, int]:
        """What is committed, and what was asked so far. Requests of one seed are one sample's same attempt."""
        asked = seeds(self.stub)
        return {"committed": self.committed(), "asked": len(asked), "asked_twice": len(asked) - len(set(asked))}

    def committed(self) -> int:
        """Samples committed, from the bucket alone."""
        return SHARD_SAMPLES * len(list_units(self.store))

    def until(self, what: Callable[[], Any], seconds: float = 300) -> None:
        """Wait for something to be so, whatever is away meanwhile."""
        deadline = time.monotonic() + seconds
        while True:
            with contextlib.suppress(StoreError):
                if what():
                    return
            assert time.monotonic() < deadline, self.words()
            time.sleep(0.2)

    def secrets(self) -> dict[str, str]:
        """What must be nowhere, by what it is."""
        return {
            "the store's secret key": self.ceph.secret_key,
            "the server's password": self.server.auth.partition(":")[2],
            "the database's password": self.postgres.password,
        }

    def left(self) -> Iterator[tuple[str, bytes]]:
        """All that was written, by name: logs, Prefect's files and its database, objects of the bucket."""
        for path in (*self.folder.glob("*.log"), *self._files("logs"), *self._files("ceph/log")):
            yield str(path), path.read_bytes()
        for path in self._files("prefect-home"):
            yield str(path), path.read_bytes()
        yield "PostgreSQL's log", self.postgres.log.encode()
        tables = self.postgres.query("select table_name from information_schema.tables where table_schema = 'public'")
        for [table] in tables:
            yield f"table {table}", str(self.postgres.query(f'select t::text from "{table}" t')).encode()
        for item in self.store.list(""):
            yield item.key, self.store.get(item.key)

    def words(self) -> str:
        """The ends of all logs, for a failed test."""
        paths = [*self.folder.glob("*.log"), *self._files("logs")]
        return "\n".join(f"--- {path.name}\n{path.read_text(errors='replace')[-3000:]}" for path in paths)

    def _files(self, folder: str) -> list[Path]:
        return [path for path in sorted((self.folder / folder).rglob("*")) if path.is_file()]


def forms(secret: str) -> list[bytes]:
    """As it is, and inside base64 at each of the three offsets, as in an `Authorization` header."""
    encoded = [base64.b64encode(b"x" * offset + secret.encode() + b"yy") for offset in range(3)]
    return [secret.encode(), *(text[4 if offset else 0 : -4] for offset, text in enumerate(encoded))]
