"""Watching over the training processes: their events, stopping them with a checkpoint, and leaving none behind."""

import contextlib
import fcntl
import json
import math
import os
import queue
import shlex
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

import psutil

from caprl_core.engines.reaper import Reaper, kill_marked
from caprl_core.errors import (
    BadInputError,
    CaprlError,
    EngineDeadError,
    IdentityMismatchError,
    StoreError,
)
from caprl_core.exit_codes import ExitCode
from caprl_core.training.launch import ACCELERATE, TORCHRUN

LOG = "training.log"
GRACE_S = 120.0
"""Seconds the processes have, once asked to stop, to end their step and save a checkpoint. Our choice: a step of a 3B
captioner with long captions is of the order of a minute; whoever needs longer goes on from the checkpoint before."""
LOCK_WAIT_S = 15.0
"""Seconds to wait for the run folder: processes of a killed run are gone within one, on a busy machine some more."""
_POLL_S = 0.2
_DRAIN_S = 5.0
"""Seconds to read the last events; whoever may still hold their pipe must not keep us."""
_LINE_BYTES = 2**20
_SHOWN_BYTES, _SHOWN_LINES = 8192, 30
_TOLD = {kind.__name__: kind for kind in (BadInputError, EngineDeadError, IdentityMismatchError, StoreError)}

Tell = Callable[[dict[str, Any]], None]


class TrainingFailedError(CaprlError):
    """The training processes ended with an error of their own; the text has the end of their log."""


def supervise(
    command: Sequence[str],
    environment: Mapping[str, str],
    log: Path,
    tell: Tell,
    stop: threading.Event,
    *,
    grace_s: float = GRACE_S,
) -> bool:
    """Run the training processes to their end: True when they are through, False when they stopped to be resumed.

    `tell` is called in this thread with each event they print, and with `{"event": "stopping", "grace_s": …}` when they
    are asked to stop: because `stop` was set, or because an exception such as a signal's reached this thread (it is
    raised again when they have ended). Only the training processes are asked, not the engines they run, which they need
    to end their step. Everything else they print goes to `log`. No process is left when this returns, nor when this
    process is killed.

    Raises the error they told (`BadInputError`, `IdentityMismatchError`, `EngineDeadError`, `StoreError`),
    `TrainingFailedError` with the end of the log for every other failure, and `BadInputError` when another run has the
    folder.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with _locked(log.with_suffix(".lock")) as lock, log.open("ab", buffering=0) as output:
        began = output.tell()
        output.write(f"--- {time.strftime('%Y-%m-%dT%H:%M:%S%z')} {shlex.join(command)}\n".encode())
        processes = _Processes(command, environment, output, lock)
        try:
            processes.follow(tell, stop, grace_s)
        except BaseException:
            now = threading.Event()
            now.set()
            processes.follow(tell, now, grace_s)
            raise
        finally:
            processes.end(tell)
    return processes.verdict(log, began)


class _Processes:
    """The first process and all that it started."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], output: IO[bytes], lock: int) -> None:
        self._launched = any(word in (ACCELERATE, TORCHRUN) for word in command)
        self._output = output
        self._events: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._error: dict[str, Any] | None = None
        self._stopped = False
        self._deadline = math.inf
        self._reaper = Reaper()
        self._reaper.start()
        try:
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                command,
                env={**environment, **self._reaper.environment()},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=output,
                # A signal to our group or terminal is for us to pass on, once.
                start_new_session=True,
                # So the folder stays locked as long as one of them lives, even when we are killed.
                pass_fds=(lock,),
            )
        except BaseException:
            self._reaper.stop()
            raise
        self._reading = threading.Thread(target=self._read, name="caprl-training", daemon=True)
        self._reading.start()

    def follow(self, tell: Tell, stop: threading.Event, grace_s: float) -> None:
        """Pass their events on until they have ended, or have been asked to stop and their time is up."""
        while time.monotonic() < self._deadline:
            if stop.is_set() and not self._asked:
                self._deadline = time.monotonic() + grace_s
                tell({"event": "stopping", "grace_s": grace_s})
                self._ask_to_stop()
            try:
                self._pass_on(self._events.get(timeout=_POLL_S), tell)
            except queue.Empty:
                if self._process.poll() is not None:
                    return

    def end(self, tell: Tell) -> None:
        """Kill whatever is left of them, and pass their last events on."""
        if self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        kill_marked(self._reaper.mark)
        self._reaper.stop()
        self._reading.join(_DRAIN_S)
        while not self._events.empty():
            self._pass_on(self._events.get(), tell)

    def verdict(self, log: Path, began: int) -> bool:
        """What came of it; see `supervise`. `began` is where this attempt's log begins, in bytes."""
        code = self._process.returncode
        if self._error is not None:
            kind = _TOLD.get(str(self._error.get("kind")), TrainingFailedError)
            raise kind(str(self._error.get("error")))
        if code == 0:
            return True
        # A launcher has an exit code of its own, and a process that was still importing none that says anything.
        if code == ExitCode.INTERRUPTED or self._stopped or self._asked:
            return False
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        raise TrainingFailedError(f"the training process {how}; the end of {log}:\n{_end_of(log, began)}")

    @property
    def _asked(self) -> bool:
        return self._deadline < math.inf

    def _ask_to_stop(self) -> None:
        """A launcher is not asked: torch's gives its processes 30 s and then kills them."""
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(self._process.pid)
            for one in (process.children() if self._launched else []) or [process]:
                with contextlib.suppress(psutil.Error):
                    one.terminate()

    def _pass_on(self, event: dict[str, Any], tell: Tell) -> None:
        if event["event"] == "error":
            self._error = self._error or event  # of several processes the others only miss the first
            return
        self._stopped |= event["event"] == "stopped" and event.get("reason") == "signal"
        tell(event)

    def _read(self) -> None:
        with cast(IO[bytes], self._process.stdout) as lines:
            for line in iter(lambda: lines.readline(_LINE_BYTES), b""):
                event = _event(line)
                if event is None:
                    self._output.write(line)
                else:
                    self._events.put(event)


@contextmanager
def _locked(path: Path) -> Iterator[int]:
    """The lock of a run folder: two runs in one would write the same files. Yields its open file."""
    with path.open("ab") as file:
        deadline = time.monotonic() + LOCK_WAIT_S
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() > deadline:
                    raise BadInputError(
                        f"another training runs in {path.parent}; wait for it, or stop it, or name another folder"
                    ) from error
            time.sleep(_POLL_S)
        yield file.fileno()


def _event(line: bytes) -> dict[str, Any] | None:
    if not line.startswith(b"{"):
        return None
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) and isinstance(found.get("event"), str) else None


def _end_of(log: Path, began: int) -> str:
    with log.open("rb") as file:
        file.seek(max(began, file.seek(0, os.SEEK_END) - _SHOWN_BYTES))
        return "\n".join(file.read().decode("utf-8", "replace").splitlines()[-_SHOWN_LINES:])
