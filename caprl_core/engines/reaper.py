"""Kills an engine's processes when the process that started them is gone, however it went, SIGKILL included.

vLLM's engine core outlives a killed parent. So before an engine starts, its parent starts this small helper in a
session of its own, and puts a mark into the environment the engine's processes inherit. The helper sleeps until the
parent has ended, then kills every process that carries the mark.
"""

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator

import psutil

MARK = "CAPRL_ENGINE_MARK"
"""Environment variable that names the engine a process belongs to."""

HANDED_ON: list[int] = []
"""Descriptors that helpers started from now on keep open until they end: locks that outlive this process as long as an
engine of its does."""

POLL_S = 0.2  # how often the parent is looked at where the kernel cannot tell (before Linux 5.3, and macOS)
SWEEP_S = 10.0  # how long killing goes on while marked processes keep appearing
QUIET_ROUNDS = 3  # rounds without a marked process until the sweep believes that there are none


class Reaper:
    """One helper for one engine. Start it before the engine, stop it after the engine is down.

    The helper looks at the environment processes were started with, so whatever starts them must do so by `exec`
    (`subprocess`, or multiprocessing's `spawn`), with `environment()` set.
    """

    def __init__(self) -> None:
        self.mark = f"{os.getpid()}-{uuid.uuid4().hex}"
        self._helper: subprocess.Popen[bytes] | None = None

    def environment(self) -> dict[str, str]:
        """What the engine's processes must find in their environment."""
        # setproctitle, which vLLM names its processes with, otherwise writes over the environment others can read.
        return {MARK: self.mark, "SPT_NOENV": "1"}

    def start(self) -> None:
        """Start watching this process."""
        parent = psutil.Process()
        self._helper = subprocess.Popen(  # noqa: S603 - our own module, and two numbers and a mark of our making
            [sys.executable, "-m", "caprl_core.engines.reaper", str(parent.pid), str(parent.create_time()), self.mark],
            # Without the mark of whoever watches this process: killed along with it, the helper could not do its work.
            env={name: value for name, value in os.environ.items() if name != MARK},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=HANDED_ON,
            start_new_session=True,  # a signal to the parent's group or terminal must not reach the helper
        )

    def stop(self) -> None:
        """Stop watching; kills nothing but the helper."""
        if self._helper is not None:
            self._helper.kill()
            self._helper.wait()
            self._helper = None


def kill_marked(mark: str) -> int:
    """SIGKILL every process that carries `mark`, until no more appear; returns how many were killed."""
    killed: set[int] = set()
    quiet = 0
    deadline = time.monotonic() + SWEEP_S
    while quiet < QUIET_ROUNDS and time.monotonic() < deadline:
        found = list(_marked(mark))
        for process in found:
            with contextlib.suppress(psutil.Error):
                process.kill()
                killed.add(process.pid)
        quiet = 0 if found else quiet + 1
        time.sleep(0.05)
    return len(killed)


def marks_of(pid: int) -> set[str]:
    """Marks of living processes of the engines that process `pid` started."""
    found = set()
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            mark = process.environ().get(MARK, "")
            if mark.startswith(f"{pid}-") and process.status() != psutil.STATUS_ZOMBIE:
                found.add(mark)
    return found


def _marked(mark: str) -> Iterator[psutil.Process]:
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.environ().get(MARK) != mark or process.status() == psutil.STATUS_ZOMBIE:
                continue
            # Python's resource tracker removes the shared memory of the killed and then ends by itself.
            if any("multiprocessing.resource_tracker" in word for word in process.cmdline()):
                continue
            yield process


def _wait_for_end(pid: int, created: float) -> None:
    """Return when the process that had `pid` at `created` (seconds since the epoch) has ended."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    except (AttributeError, OSError):
        descriptor = None
    while _lives(pid, created):
        if descriptor is None:
            time.sleep(POLL_S)
        else:
            select.select([descriptor], [], [])


def _lives(pid: int, created: float) -> bool:
    try:
        process = psutil.Process(pid)
        # The kernel counts start times in ticks of 10 ms.
        same = abs(process.create_time() - created) < 0.05
        return same and bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def main() -> None:
    """`python -m caprl_core.engines.reaper PID CREATED MARK`; started by `Reaper`."""
    pid, created, mark = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3]
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    _wait_for_end(pid, created)
    kill_marked(mark)


if __name__ == "__main__":
    main()
