"""Runs vLLM's OpenAI-compatible server as a child, and leaves none of its processes behind."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import httpx

from caprl_core.engines.reaper import Reaper, kill_marked
from caprl_core.engines.vllm_settings import default_environment, has_gpu
from caprl_core.errors import EngineDeadError

STOP_S = 3.0  # how long the server may take to end before it is killed


class VllmServer:
    """`with VllmServer(folder, name="captioner") as server:` serves on `server.url` (which ends in /v1).

    The server leads a process group of its own, killed at the end; if this process is killed, a helper does so.
    Its output goes to `log` (a temporary file by default). Port 0 takes a free one.
    """

    def __init__(
        self,
        model_path: Path | str,
        port: int = 0,
        *,
        name: str | None = None,
        host: str = "127.0.0.1",
        arguments: Sequence[str] = (),
        ready_s: float = 600.0,
        log: Path | None = None,
    ) -> None:
        self._model_path = str(model_path)
        self.name = name or self._model_path
        self._host = host
        self._port = port
        self._arguments = tuple(arguments)
        self._ready_s = ready_s
        self._log = log
        self._reaper = Reaper()
        self._server: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Base URL for an OpenAI client."""
        return f"http://{self._host}:{self._port}/v1"

    @property
    def log(self) -> Path:
        """The server's output."""
        if self._log is None:
            descriptor, path = tempfile.mkstemp(prefix="caprl-vllm-", suffix=".log")
            os.close(descriptor)
            self._log = Path(path)
        return self._log

    @property
    def process_id(self) -> int:
        """The server's process, which leads its group."""
        if self._server is None:
            raise EngineDeadError("the vLLM server is not running")
        return self._server.pid

    def __enter__(self) -> Self:
        """Start the server and wait until it answers. Raises `EngineDeadError`, with the end of its output."""
        if self._port == 0:
            with socket.socket() as free:
                free.bind((self._host, 0))
                self._port = free.getsockname()[1]
        gpu = has_gpu()
        self._reaper.start()
        with self.log.open("wb") as output:
            self._server = subprocess.Popen(  # noqa: S603 - no shell, and the arguments are the caller's
                self._command(gpu),
                env=os.environ | default_environment(gpu) | self._reaper.environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            self._wait_until_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def _command(self, gpu: bool) -> list[str]:
        # The `vllm` command of the CPU build crashes at once, looking for its metadata under the other build's name.
        command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", self._model_path]
        command += ["--host", self._host, "--port", str(self._port), "--served-model-name", self.name]
        command += ["--limit-mm-per-prompt", json.dumps({"image": 1, "video": 0}), "--mm-processor-cache-gb", "0"]
        command += ["--shutdown-timeout", "10"]  # without it SIGTERM hangs while a request is in flight
        if not gpu:
            # The reasons are those of `vllm_settings.engine_arguments`.
            command += ["--enforce-eager", "--dtype", "float32", "--no-enable-chunked-prefill"]
        return [*command, *self._arguments]

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + self._ready_s
        health = self.url.removesuffix("/v1") + "/health"
        while time.monotonic() < deadline:
            if self._server is None or self._server.poll() is not None:
                raise EngineDeadError(f"the vLLM server ended while starting ({self.log}):\n{self._tail()}")
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(health, timeout=5.0, trust_env=False).status_code == httpx.codes.OK:
                    return
            time.sleep(0.2)
        raise EngineDeadError(f"the vLLM server was not ready after {self._ready_s:g} s ({self.log}):\n{self._tail()}")

    def _tail(self) -> str:
        return self.log.read_text(errors="replace")[-2000:]

    def stop(self) -> None:
        """End the server and all its processes; idempotent."""
        if self._server is not None:
            # The group, not the process: a killed front end leaves its engine core running.
            for how, seconds in ((signal.SIGTERM, STOP_S), (signal.SIGKILL, STOP_S)):
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self._server.pid, how)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._server.wait(seconds)
            self._server = None
            kill_marked(self._reaper.mark)
        self._reaper.stop()

    def __exit__(self, *_: object) -> None:
        """Stop the server."""
        self.stop()
