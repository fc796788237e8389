"""A Prefect server as in production: on PostgreSQL, with a password, the settings of `docs/operating.md`, schedules on.

A process that may be killed and started again on the same database and port.
"""

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Self

import httpx
import psutil

from caprl_core.engines.reaper import Reaper, kill_marked
from flows.local_server import RECORDER

AUTH = "admin:prefect-41c8be07d2"
READY_S = 180.0  # the first start makes the tables, on cores that others use as well
STOP_S = 15.0
QUIET = {"PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1"}


class PrefectServer:
    """`with PrefectServer(database_url, folder) as server:` starts it and waits until it answers."""

    def __init__(
        self, database: str, folder: Path, *, auth: str = AUTH, settings: Mapping[str, str] | None = None
    ) -> None:
        self.auth = auth
        self.home = folder / "prefect-home"
        self.home.mkdir(parents=True, exist_ok=True)
        self.log = folder / "prefect-server.log"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = int(free.getsockname()[1])
        self.url = f"http://127.0.0.1:{self.port}/api"
        self._settings = RECORDER | QUIET | dict(settings or {})
        self._settings["PREFECT_API_DATABASE_CONNECTION_URL"] = database
        self._settings["PREFECT_SERVER_API_AUTH_STRING"] = auth
        self._settings["PREFECT_HOME"] = str(self.home)
        self._reaper = Reaper()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Of the process that serves."""
        assert self._process is not None, "not started"
        return self._process.pid

    def client_environment(self, environment: Mapping[str, str] = os.environ) -> dict[str, str]:
        """`environment` for a worker, a deployment or a flow that talks to this server."""
        return (
            _without_prefect(environment)
            | QUIET
            | {
                "PREFECT_API_URL": self.url,
                "PREFECT_API_AUTH_STRING": self.auth,
                "PREFECT_HOME": str(self.home),
            }
        )

    def http(self) -> httpx.Client:
        """A client of its API, with the password."""
        user, _, password = self.auth.partition(":")
        return httpx.Client(base_url=self.url, auth=(user, password), timeout=60, trust_env=False)

    def start(self) -> None:
        """Start it; returns when it answers."""
        assert self._process is None, "started already"
        self._reaper.start()
        command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(self.port)]
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                [*command, "--no-ui", "--log-level", "WARNING"],
                env=_without_prefect(os.environ) | self._settings | self._reaper.environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        deadline = time.monotonic() + READY_S
        with self.http() as client:
            while not _answers(client):
                if self._process.poll() is not None or time.monotonic() > deadline:
                    words = self.log.read_text(errors="replace")[-3000:]
                    raise RuntimeError(f"the Prefect server did not start; its last words:\n{words}")
                time.sleep(0.2)

    def kill(self) -> None:
        """SIGKILL to every process of it."""
        if self._process is None:
            return
        with contextlib.suppress(psutil.NoSuchProcess):
            server = psutil.Process(self._process.pid)
            for process in (server, *server.children(recursive=True)):
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
        self._ended()

    def stop(self) -> None:
        """End it in order; idempotent."""
        if self._process is None:
            return
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_S)
        self.kill()

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _ended(self) -> None:
        assert self._process is not None
        self._process.wait()
        self._process = None
        kill_marked(self._reaper.mark)
        self._reaper.stop()


def _without_prefect(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if not name.startswith("PREFECT")}


def _answers(client: httpx.Client) -> bool:
    with contextlib.suppress(httpx.HTTPError):
        return client.get("/health").status_code == httpx.codes.OK
    return False
