"""Times that hosts compare are the store's: whatever the clocks of the hosts say."""

import datetime as dt
import http.server
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from caprl_core.recipe.models import StorageExecution
from caprl_core.storage import clock
from caprl_core.storage.clock import StoreClock
from caprl_core.storage.store import Store

NEAR = dt.timedelta(seconds=30)


def test_a_folder_tells_the_time_of_its_files(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    store.put("a", b"")
    assert abs(store.now() - next(store.list("")).modified) < NEAR
    assert [item.key for item in store.list("")] == ["a"]


def test_a_bucket_tells_the_time_of_its_objects(bucket: str) -> None:
    store = Store(f"s3://{bucket}/d")
    store.put("a", b"")
    assert abs(store.now() - next(store.list("")).modified) < NEAR


@pytest.fixture
def late_server() -> Iterator[str]:
    """A server whose clock is a day late, and which refuses everybody."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response_only(403)
            self.send_header("Date", self.date_time_string(self.server.now))  # type: ignore[attr-defined]
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.now = time.time() - 86_400  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def test_the_stores_clock_is_believed_not_the_hosts(late_server: str, s3_endpoint: str) -> None:
    store = Store("s3://anything", StorageExecution(endpoint=late_server))
    behind = dt.datetime.now(dt.UTC) - store.now()
    assert abs(behind - dt.timedelta(days=1)) < NEAR


def test_a_store_that_tells_no_time_is_not_needed_for_it(s3_endpoint: str) -> None:
    store = Store("s3://anything", StorageExecution(endpoint="http://127.0.0.1:1"))
    assert abs(store.now() - dt.datetime.now(dt.UTC)) < NEAR


def test_the_clock_is_looked_at_now_and_then_and_goes_on_in_between(monkeypatch: pytest.MonkeyPatch) -> None:
    moments = [100.0]
    looks: list[float] = []
    start = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)

    def look() -> dt.datetime:
        looks.append(moments[0])
        return start

    monkeypatch.setattr(clock, "time", SimpleNamespace(monotonic=lambda: moments[0]))
    made = StoreClock(look)
    assert made.now() == start
    moments[0] += 500
    assert made.now() == start + dt.timedelta(seconds=500)
    moments[0] += 101
    assert made.now() == start
    assert looks == [100.0, 701.0]


def test_a_store_that_did_not_answer_once_is_still_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    """This host's clock is wrong, and a look fails: what the store told before goes on."""
    moments, answers = [0.0], [True]
    start = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)

    def look() -> dt.datetime:
        if not answers[0]:
            raise OSError("no reply")
        return start + dt.timedelta(seconds=moments[0])

    monkeypatch.setattr(clock, "time", SimpleNamespace(monotonic=lambda: moments[0]))
    made = StoreClock(look)
    for moment, answer in ((0, True), (601, False), (700, False), (1300, False), (1950, True)):
        moments[0], answers[0] = moment, answer
        assert made.now() == start + dt.timedelta(seconds=moment)
