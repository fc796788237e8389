"""A Prefect server for the life of one run, where none is configured.

Prefect would start one itself, but in our process group: Ctrl-C would end it before the run could report its end, and
it would outlive a killed run. This one has a session of its own and a helper that ends it when we are gone.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Self

import httpx

from caprl_core.engines.reaper import Reaper, kill_marked
from caprl_core.errors import CaprlError

READY_S = 120.0  # start-up takes 5 s here; the first one on a slow disk also creates the database
STOP_S = 5.0

RECORDER = {
    # With the defaults a server had recorded 893 of 9,000 finished tasks when their flow ended; so set, all of them.
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_READ_BATCH_SIZE": "200",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "200",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL": "1",
}


class LocalServer:
    """`with LocalServer() as server:` starts it; `wait` returns its API's URL. It uses the user's Prefect database."""

    def __init__(self) -> None:
        self._reaper = Reaper()
        self._process: subprocess.Popen[bytes] | None = None
        self._scratch = tempfile.TemporaryDirectory(prefix="caprl-prefect-")
        self._log = Path(self._scratch.name) / "server.log"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]

    def __enter__(self) -> Self:
        """Start it; it answers some seconds later."""
        self._reaper.start()
        command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(self._port)]
        # Schedules and late runs in the user's database are no business of this run.
        command += ["--no-ui", "--no-scheduler", "--no-late-runs", "--log-level", "ERROR"]
        with self._log.open("wb") as output:
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and constant arguments
                command,
                env=RECORDER | os.environ | self._reaper.environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return self

    def wait(self) -> str:
        """Return its URL, for `PREFECT_API_URL`, once it answers. Raises `CaprlError`, with the end of its output."""
        if self._process is None:
            raise CaprlError("the embedded Prefect server has not been started")
        url = f"http://127.0.0.1:{self._port}/api"
        deadline = time.monotonic() + READY_S
        while time.monotonic() < deadline and self._process.poll() is None:
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"{url}/health", timeout=5.0, trust_env=False).status_code == httpx.codes.OK:
                    return url
            time.sleep(0.1)
        raise CaprlError(
            "the embedded Prefect server did not start; set PREFECT_HOME to a writable folder of its own, or "
            f"PREFECT_API_URL to a running server. Its last words:\n{self._log.read_text(errors='replace')[-2000:]}"
        )

    def stop(self) -> None:
        """End it and everything it started; idempotent."""
        if self._process is not None:
            for how in (signal.SIGTERM, signal.SIGKILL):
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self._process.pid, how)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(STOP_S)
                    break
            self._process = None
            kill_marked(self._reaper.mark)
        self._reaper.stop()
        self._scratch.cleanup()

    def __exit__(self, *_: object) -> None:
        """Stop it."""
        self.stop()
