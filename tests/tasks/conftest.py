"""A real Prefect server to which flows of this process report."""

from collections.abc import Iterator

import pytest
from prefect.events.worker import EventsWorker
from prefect.settings import PREFECT_API_URL, temporary_settings

from support.prefect_server import Server, own_server


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Flows that are called in this process report to it."""
    with (
        own_server(tmp_path_factory.mktemp("prefect-home")) as one,
        temporary_settings(updates={PREFECT_API_URL: one.url}),
    ):
        # One that tests with another server left in this process would go on telling that one of all events.
        EventsWorker.drain_all(timeout=5)
        yield one
        EventsWorker.drain_all(timeout=5)
