"""Does things for people in a thread of its own, so that a server that does not answer holds nobody up."""

import contextvars
import threading
from collections.abc import Callable


class InBackground:
    """Of each kind of thing the newest is done, one after another; an older one that still waits is left out.

    Runs in the context of whoever asked, so Prefect knows whose artifact it is. The thread never keeps a process alive.
    """

    def __init__(self) -> None:
        self._waiting: dict[str, Callable[[], object]] = {}
        self._changed = threading.Condition()
        self._busy = False
        self._thread: threading.Thread | None = None

    def do(self, kind: str, work: Callable[[], object]) -> None:
        """Have this done soon; `work` must not raise."""
        context = contextvars.copy_context()
        with self._changed:
            self._waiting[kind] = lambda: context.run(work)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="caprl-artifacts", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def settle(self, seconds: float) -> bool:
        """Wait until everything is done, at most so long; whether it is."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._waiting and not self._busy, seconds)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: bool(self._waiting))
                kind = next(iter(self._waiting))
                work = self._waiting.pop(kind)
                self._busy = True
            try:
                work()
            finally:
                with self._changed:
                    self._busy = False
                    self._changed.notify_all()
