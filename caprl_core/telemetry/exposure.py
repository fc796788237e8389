"""Serves metrics over HTTP: opt-in, on the loopback address unless told otherwise, never at the cost of the lane."""

import errno
import logging
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Self

from prometheus_client import CollectorRegistry, ProcessCollector, start_http_server
from prometheus_client.registry import Collector

from caprl_core.recipe.models import MetricsExecution

logger = logging.getLogger(__name__)


class MetricsServer(AbstractContextManager["MetricsServer"]):
    """`/metrics` on the first free port of the range, while entered. Does nothing where no port is asked for.

    Lanes of one host share the range: the first takes `port`, the next `port + 1`. `collector` makes what is served,
    given the lane's place in the range. `port` is what was taken, or None where none was: that is told.
    """

    def __init__(
        self,
        settings: MetricsExecution,
        collector: Callable[[int], Collector],
        tell: Callable[..., None] = logger.warning,
    ) -> None:
        self._tell = tell
        self._settings = settings
        self._collector = collector
        self._close: Callable[[], None] = lambda: None
        self.port: int | None = None

    def __enter__(self) -> Self:
        """Listen."""
        if self._settings.port is None:
            return self
        first = self._settings.port
        problem: OSError | None = None
        for place in range(min(self._settings.ports, 65536 - first)):
            try:
                self._listen(first + place, self._collector(place))
            except OSError as error:
                problem = error
                if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                    break  # another port of an address this host has not would not help
            else:
                return self
        self._tell(
            "no metrics: %s, ports %d to %d: %s",
            self._settings.address,
            first,
            min(first + self._settings.ports - 1, 65535),
            problem,
        )
        return self

    def _listen(self, port: int, collector: Collector) -> None:
        registry = CollectorRegistry()
        registry.register(collector)
        ProcessCollector(registry=registry)
        server, thread = start_http_server(port, self._settings.address, registry)
        self.port = port

        def close() -> None:
            server.shutdown()
            _join(thread)
            server.server_close()

        self._close = close
        logger.info("metrics on http://%s:%d/metrics", self._settings.address, port)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Free the port."""
        self._close()
        self._close = lambda: None


def _join(thread: threading.Thread) -> None:
    """`serve_forever` looks up twice a second, so this is soon over."""
    thread.join(5.0)
