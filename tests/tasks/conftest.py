"""A real Prefect server with a database of its own, services and all."""

import os
from collections.abc import Iterator

import pytest
from prefect.events.worker import EventsWorker
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.local_server import LocalServer
from support.prefect_server import Server


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Flows that are called in this process report to it."""
    home = tmp_path_factory.mktemp("prefect-home")
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("PREFECT")]:
            patch.delenv(name)
        patch.setenv("PREFECT_HOME", str(home))
        patch.setenv("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
        patch.setenv("DO_NOT_TRACK", "1")
        with LocalServer() as local:
            url = local.wait()
            with temporary_settings(updates={PREFECT_API_URL: url}):
                # One that tests with another server left in this process would go on telling that one of all events.
                EventsWorker.drain_all(timeout=5)
                yield Server(url, home)
                EventsWorker.drain_all(timeout=5)
