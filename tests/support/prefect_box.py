"""What an operator does on one machine: `prefect` commands, work pools, deployments, workers; and a look at the API."""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import yaml

from support.prefect_commands import OF_A_WORKER, ROOT, run_prefect, start_worker
from support.prefect_on_postgres import PrefectServer

POOLS = ("cpu-pool", "gpu-pool")
STOP_S = 20.0


class PrefectBox:
    """One server, and what is run against it with `environment` (credentials of the bucket, of the engine)."""

    def __init__(self, server: PrefectServer, folder: Path, environment: Mapping[str, str]) -> None:
        self.server = server
        self.folder = folder
        self.environment = server.client_environment(environment) | OF_A_WORKER

    def prefect(self, *arguments: str) -> str:
        """Standard output of a command."""
        return run_prefect(*arguments, environment=self.environment, log=self.folder / "commands.log")

    def deploy(self, **parameters: Any) -> None:
        """The pools and every deployment of `prefect.yaml`; `parameters` replace those of every deployment that has
        such, as a user writes the own recipes there.
        """
        for pool in POOLS:
            self.prefect("work-pool", "create", pool, "--type", "process")
        project = yaml.safe_load((ROOT / "prefect.yaml").read_text())
        for deployment in project["deployments"]:
            own = deployment["parameters"]
            own |= {name: value for name, value in parameters.items() if name in own}
        path = self.folder / "prefect.yaml"
        path.write_text(yaml.safe_dump(project))
        self.prefect("deploy", "--all", "--prefect-file", str(path))

    @contextmanager
    def worker(self, pool: str, *arguments: str, **environment: str) -> Iterator[psutil.Popen]:
        """A real worker; at the end it and everything it started are gone. Its words are in `worker-<pool>.log`."""
        log = self.folder / f"worker-{pool}.log"
        process = start_worker(pool, *arguments, environment=self.environment | environment, log=log)
        try:
            yield process
        finally:
            started = process.children(recursive=True) if process.is_running() else []
            process.terminate()
            with contextlib.suppress(psutil.TimeoutExpired):
                process.wait(STOP_S)
            for one in (*started, process):
                with contextlib.suppress(psutil.NoSuchProcess):
                    one.kill()
            process.wait()

    def ask(self, path: str, **body: Any) -> Any:
        """The API's answer to a POST."""
        with self.server.http() as client:
            return client.post(path, json=body).raise_for_status().json()

    def runs(self, deployment: str, *states: str) -> list[dict[str, Any]]:
        """Flow runs of a deployment in these types of state (default: all), by the time they started."""
        wanted: dict[str, Any] = {"deployments": {"name": {"any_": [deployment]}}, "sort": "START_TIME_ASC"}
        if states:
            wanted["flow_runs"] = {"state": {"type": {"any_": list(states)}}}
        found: list[dict[str, Any]] = self.ask("/flow_runs/filter", **wanted)
        return found

    def words(self) -> str:
        """The last words of everybody."""
        return "".join(
            f"== {path.name}\n{path.read_text(errors='replace')[-3000:]}" for path in self.folder.glob("*.log")
        )

    def eventually(self, what: Callable[[], bool], seconds: float = 200) -> None:
        """Wait until it is so; a server that is away for a moment is asked again."""
        deadline = time.monotonic() + seconds
        while True:
            with contextlib.suppress(httpx.HTTPError):
                if what():
                    return
            assert time.monotonic() < deadline, self.words()
            time.sleep(0.5)
