"""A flow run in a process that a worker started ends when its worker dies.

A worker killed by SIGKILL leaves its flow runs behind. Prefect ends one only when it next writes to the pipe that is
gone, which may take minutes; a worker started in its place takes the next lane at once, which then waits in vain.
"""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator

LOOK_S = 1.0
"""Seconds between looks whether the worker lives."""


def by_a_worker() -> bool:
    """Whether this process was started by a worker for one flow run."""
    return bool(os.environ.get("PREFECT__FLOW_RUN_ID"))


@contextlib.contextmanager
def ending_with_the_worker() -> Iterator[None]:
    """Stop this process as SIGTERM does, logs flushed and engine closed, once the worker that started it is gone."""
    if not by_a_worker():
        yield
        return
    worker, over = os.getppid(), threading.Event()

    def watch() -> None:
        while not over.wait(LOOK_S):
            if os.getppid() != worker:
                _let_go_of_output()
                os.kill(os.getpid(), signal.SIGTERM)
                return

    threading.Thread(target=watch, name="worker-watch", daemon=True).start()
    try:
        yield
    finally:
        over.set()


def _let_go_of_output() -> None:
    # It was a pipe to the worker. The first line written to it would end this process on the spot, in whichever thread
    # (rich raises SystemExit), before logs are flushed and the engine is closed.
    nothing = os.open(os.devnull, os.O_WRONLY)
    for descriptor in (1, 2):
        os.dup2(nothing, descriptor)
