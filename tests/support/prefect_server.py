"""A Prefect server as a test sees it: its command line, its client, its events."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from prefect.client.orchestration import SyncPrefectClient

ROOT = Path(__file__).parents[2]


class Server:
    """Its URL, a client, and what it tells."""

    def __init__(self, url: str, home: Path) -> None:
        self.client = SyncPrefectClient(url)
        self._environment = os.environ | {"PREFECT_API_URL": url, "PREFECT_HOME": str(home)}

    def prefect(self, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "prefect", "--no-prompt", *arguments],
            cwd=ROOT,
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def events(self, prefix: str) -> list[dict[str, Any]]:
        """Events whose names begin so, newest first."""
        reply = self.client._client.post(
            "/events/filter", json={"filter": {"event": {"prefix": [prefix]}}, "limit": 50}
        )
        return list(reply.raise_for_status().json()["events"])
