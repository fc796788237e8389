"""The scheduler of the installed Prefect works with the installed SQLAlchemy.

With SQLAlchemy 2.1 that of Prefect 3.7.7 makes no run at all, which only the server's log tells.
"""

import time
from pathlib import Path

import httpx
import pytest

from flows.local_server import LocalServer


def test_a_schedule_makes_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    monkeypatch.setenv("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    with LocalServer() as server, httpx.Client(base_url=server.wait(), timeout=60, trust_env=False) as client:

        def post(path: str, **body: object) -> httpx.Response:
            for _ in range(30):
                answer = client.post(path, json=body)
                if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE:  # SQLite is locked by somebody else
                    break
                time.sleep(1)
            return answer.raise_for_status()

        flow = post("/flows/", name="scheduled").json()["id"]
        schedules = [{"schedule": {"interval": 3600}, "active": True}]
        deployment = post("/deployments/", name="hourly", flow_id=flow, schedules=schedules).json()["id"]
        # What the scheduler does now and then; the server of a run leaves it out.
        post(f"/deployments/{deployment}/schedule", min_runs=3)
        found = post("/flow_runs/filter", deployments={"id": {"any_": [deployment]}}).json()
    assert len(found) >= 3
    assert all(run["auto_scheduled"] and run["state_type"] == "SCHEDULED" for run in found)
