"""Runs a flow in this process: settings, a server if none is configured, signals, a display, an exit code.

Nothing here imports Prefect before its environment is prepared.
"""

import importlib
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any

from caprl_core.cli.run_display import RunDisplay
from caprl_core.errors import CaprlError
from caprl_core.exit_codes import ExitCode, exit_code
from flows.local_server import LocalServer
from flows.watching import WATCHER

DEFAULTS = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    # As in prefect.yaml: on a server that ends runs without heartbeats (docs/silent-runs.yaml) this one shall live too.
    "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
    # Failures are shown by the display and carried by the exit code; a traceback for each shard would drown them.
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
    # Standard output is for results; vLLM would log there.
    "VLLM_LOGGING_STREAM": "ext://sys.stderr",
}
"""What is set where the user has not set it."""


class StoppedError(BaseException):
    """A signal asked this process to end. Like KeyboardInterrupt, no handler of ordinary errors may swallow it."""


class Stopping:
    """Turns the first SIGINT or SIGTERM into `StoppedError` in the main thread, and waits out the following ones.

    While a flow runs, Prefect's own handler takes SIGTERM and raises in the flow, which calls `began`.
    """

    def __init__(self, display: RunDisplay) -> None:
        self._display = display
        self._began = False
        self.signal = signal.SIGTERM
        """The first signal that came."""

    @property
    def exit_code(self) -> int:
        """128 + signal, the shells' convention."""
        return 128 + int(self.signal)

    def install(self) -> None:
        """Take both signals."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._handle)

    def began(self) -> None:
        """The run is unwinding: say so, ignore further signals, and end the process if that takes too long."""
        if not self._began:
            self._began = True
            self.install()
            self._display.note("stopping: what is done is being saved")
            late = threading.Timer(self._display.stop_grace_s, self._give_up)
            late.daemon = True
            late.start()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if not self._began:
            self.signal = signal.Signals(number)
            self.began()
            raise StoppedError

    def _give_up(self) -> None:
        seconds = f"{self._display.stop_grace_s:g} s"
        self._display.note(f"not stopped after {seconds}, ending at once; what is in the logs is kept")
        self._display.close()
        # The engine's and the server's helpers end their processes as soon as this one is gone.
        os._exit(self.exit_code)


def run_embedded(module: str, flow: str, parameters: Mapping[str, Any], display: RunDisplay) -> int:
    """Run `module.flow` with these parameters; returns the exit code (see `caprl_core.exit_codes`)."""
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    stopping = Stopping(display)
    stopping.install()
    display.on_stopping = stopping.began
    try:
        with display:
            display.note("starting")
            with _flow(module, flow) as run, _watched_by(display):
                summary = run(**parameters)
            display.summary(summary)
    except CaprlError as error:
        display.error(str(error))
        return int(exit_code(error))
    except Exception as error:
        traceback.print_exception(error)
        return int(ExitCode.FAILURE)
    except BaseException as error:
        if not _is_stop(error):
            raise
        display.stopped(stopping.signal.name)
        return stopping.exit_code
    return int(ExitCode.OK)


@contextmanager
def _flow(module: str, flow: str) -> Iterator[Callable[..., dict[str, Any]]]:
    """The flow, with the configured Prefect API or else a server of our own behind it."""
    from prefect.settings import PREFECT_API_URL, temporary_settings  # noqa: PLC0415

    if PREFECT_API_URL.value():
        yield getattr(importlib.import_module(module), flow)
        return
    with LocalServer() as server:
        run = getattr(importlib.import_module(module), flow)  # while the server starts: both take seconds
        with temporary_settings(updates={PREFECT_API_URL: server.wait()}):
            try:
                yield run
            finally:
                _drain()


@contextmanager
def _watched_by(display: RunDisplay) -> Iterator[None]:
    token = WATCHER.set(display)
    try:
        yield
    finally:
        WATCHER.reset(token)


def _drain() -> None:
    """Deliver the logs and events still queued in this process, while the server is there to take them."""
    from prefect.events.worker import EventsWorker  # noqa: PLC0415
    from prefect.logging.handlers import APILogWorker  # noqa: PLC0415

    for worker in (APILogWorker, EventsWorker):
        try:
            worker.instance().drain()
        except Exception as error:
            print(f"some of the run's logs did not reach the Prefect server: {error}", file=sys.stderr)


def _is_stop(error: BaseException) -> bool:
    from prefect.exceptions import TerminationSignal  # noqa: PLC0415

    return isinstance(error, KeyboardInterrupt | StoppedError | TerminationSignal)
