"""A Prefect server as in production: on PostgreSQL, with a password, the settings of `docs/operating.md`, schedules on.

A process that may be killed and started again on the same database and port.
"""

import contextlib
import os
import signal
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Self

import httpx

from flows.local_server import RECORDER

from .killable_server import KillableServer  # noqa: TID252 - tests call this folder `support`, bench `tests.support`

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
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = int(free.getsockname()[1])
        self.url = f"http://127.0.0.1:{self.port}/api"
        self._settings = RECORDER | QUIET | dict(settings or {})
        self._settings["PREFECT_API_DATABASE_CONNECTION_URL"] = database
        self._settings["PREFECT_SERVER_API_AUTH_STRING"] = auth
        self._settings["PREFECT_HOME"] = str(self.home)
        self._server = KillableServer("the Prefect server", folder / "prefect-server.log")

    @property
    def pid(self) -> int:
        """Of the process that serves."""
        return self._server.pid

    @property
    def log(self) -> Path:
        """Where its words are."""
        return self._server.log

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
        command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(self.port)]
        with self.http() as client:
            self._server.start(
                [*command, "--no-ui", "--log-level", "WARNING"],
                environment=_without_prefect(os.environ) | self._settings,
                answers=lambda: _answers(client),
                seconds=READY_S,
            )

    def kill(self) -> None:
        """SIGKILL to every process of it."""
        self._server.kill()

    def stop(self) -> None:
        """End it in order; idempotent."""
        self._server.stop(signal.SIGTERM, STOP_S)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def _without_prefect(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if not name.startswith("PREFECT")}


def _answers(client: httpx.Client) -> bool:
    with contextlib.suppress(httpx.HTTPError):
        return client.get("/health").status_code == httpx.codes.OK
    return False
