"""What time it is by the store's clock: hosts differ by minutes, and what they write is compared."""

import datetime as dt
import email.utils
import logging
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx

logger = logging.getLogger(__name__)

LOOK_S = 600.0
"""Seconds between looks at the store's clock; in between this machine's own progress of time is added."""
REPLY_S = 5.0


class StoreClock:
    """`look` reads the store's clock. Where it cannot, this machine's clock has to do. Thread-safe."""

    def __init__(self, look: Callable[[], dt.datetime]) -> None:
        self._look = look
        self._lock = threading.Lock()
        self._seen: tuple[dt.datetime, float] | None = None

    def now(self) -> dt.datetime:
        """Timezone-aware; to the second on S3."""
        with self._lock:
            if self._seen is None or time.monotonic() - self._seen[1] > LOOK_S:
                try:
                    self._seen = (self._look(), time.monotonic())
                except (OSError, httpx.HTTPError, ValueError, TypeError, KeyError) as error:
                    logger.info("the store does not tell the time now, so this machine does: %r", error)
                    # From what the store told last, if it ever did: that this machine's clock is right is not known.
                    known = dt.datetime.now(dt.UTC) if self._seen is None else _progressed(*self._seen)
                    self._seen = (known, time.monotonic())
            return _progressed(*self._seen)


def _progressed(told: dt.datetime, at: float) -> dt.datetime:
    return told + dt.timedelta(seconds=time.monotonic() - at)


def server_time(page: str) -> dt.datetime:
    """The `Date` of a server's reply, whatever the reply is: no rights are needed."""
    reply = httpx.head(page, timeout=REPLY_S, follow_redirects=False)
    return email.utils.parsedate_to_datetime(reply.headers["date"]).astimezone(dt.UTC)


def folder_time(folder: Path) -> dt.datetime:
    """The time a file gets that is made there now: on a network drive, its server's."""
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(b".")
        file.flush()
        modified = Path(f"/proc/self/fd/{file.fileno()}").stat().st_mtime
    return dt.datetime.fromtimestamp(modified, dt.UTC)
