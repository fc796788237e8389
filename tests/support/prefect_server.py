"""A Prefect server as a test sees it: its command line, its client, its events."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from prefect.client.orchestration import SyncPrefectClient

from flows.local_server import LocalServer
from support.prefect_commands import run_prefect


class Server:
    """Its URL, what processes need to talk to it, a client, and what it tells."""

    def __init__(self, url: str, home: Path) -> None:
        self.url = url
        self.client = SyncPrefectClient(url)
        self.environment = os.environ | {"PREFECT_API_URL": url, "PREFECT_HOME": str(home)}

    def prefect(self, *arguments: str) -> str:
        """Standard output of a command."""
        return run_prefect(*arguments, environment=self.environment)

    def events(self, prefix: str) -> list[dict[str, Any]]:
        """Events whose names begin so, newest first."""
        reply = self.client._client.post(
            "/events/filter", json={"filter": {"event": {"prefix": [prefix]}}, "limit": 50}
        )
        return list(reply.raise_for_status().json()["events"])


@contextmanager
def own_server(home: Path) -> Iterator[Server]:
    """A real one with a database of its own, services and all, and none of the settings of who runs the tests."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("PREFECT")]:
            patch.delenv(name)
        patch.setenv("PREFECT_HOME", str(home))
        patch.setenv("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
        patch.setenv("DO_NOT_TRACK", "1")
        with LocalServer() as local:
            yield Server(local.wait(), home)
