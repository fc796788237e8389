"""A server in a process of its own, which a test may kill and start again; it never outlives the test."""

import contextlib
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from caprl_core.engines.reaper import Reaper, kill_marked


class KillableServer:
    """One at a time; its words are added to `log`. `name` is how it is called when it does not start."""

    def __init__(self, name: str, log: Path) -> None:
        self.log = log
        self._name = name
        self._reaper = Reaper()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Of the process that was started; all others are its children."""
        assert self._process is not None, "not started"
        return self._process.pid

    def start(
        self,
        command: Sequence[str],
        *,
        environment: Mapping[str, str],
        answers: Callable[[], bool],
        seconds: float,
        **how: Any,
    ) -> None:
        """Start it; returns when it `answers`, or raises `RuntimeError` with its last words. `how` is for `Popen`."""
        assert self._process is None, "started already"
        self._reaper.start()
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                command,
                env={**environment, **self._reaper.environment()},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                **how,
            )
        deadline = time.monotonic() + seconds
        while not answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{self._name} did not start; its last words:\n{self.words()[-3000:]}")
            time.sleep(0.1)

    def kill(self) -> None:
        """SIGKILL to every process of it at once; idempotent."""
        if self._process is None:
            return
        # One that has ended may have left its number to somebody else; what it started is found by its mark, below.
        if self._process.poll() is None:
            with contextlib.suppress(psutil.NoSuchProcess):
                parent = psutil.Process(self._process.pid)
                parent.suspend()  # or PostgreSQL's would see its children die, and recover
                for process in (*parent.children(recursive=True), parent):
                    with contextlib.suppress(psutil.NoSuchProcess):
                        process.kill()
            self._process.wait()
        self._process = None
        kill_marked(self._reaper.mark)
        self._reaper.stop()

    def stop(self, how: signal.Signals, seconds: float) -> None:
        """Ask it to end, and kill what is left; idempotent."""
        if self._process is None:
            return
        self._process.send_signal(how)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
        self.kill()

    def words(self) -> str:
        """What it has said."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""
