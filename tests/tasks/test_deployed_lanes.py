"""Lanes as flow runs: what a server says about many of them at once."""

from uuid import uuid4

import pytest
from prefect.exceptions import PrefectHTTPStatusError

from support.prefect_server import Server
from tasks.deployed_lanes import PAGE, _pages, _read


def test_a_server_is_asked_for_no_more_runs_than_it_gives_at_once(server: Server) -> None:
    runs = [uuid4() for _ in range(2 * PAGE + 50)]
    pages = _pages(runs)
    assert [len(page) for page in pages] == [PAGE, PAGE, 50]
    assert [run for page in pages for run in page] == runs
    for page in pages:
        assert _read(server.client, page) == []
    with pytest.raises(PrefectHTTPStatusError, match="422"):
        _read(server.client, runs[: PAGE + 1])
