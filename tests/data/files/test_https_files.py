"""Annotation files and containers behind a web address are read by ranges."""

import io
import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from caprl_core.data.files.reader import Files
from caprl_core.data.sources import open_source
from caprl_core.errors import BadInputError, ObjectMissingError, StoreError
from caprl_core.recipe.models import SourceRecipe, StorageExecution

STORAGE = StorageExecution(retries=2, retry_timeout_s=5)


class RangeSite:
    """Serves `files` with or without ranges; the next `faults` requests get a 503."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.ranges = True
        self.faults = 0
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                data = site.files.get(self.path)
                if site.faults:
                    site.faults -= 1
                    return self.answer(503, b"")
                if self.path.startswith("/moved"):
                    return self.answer(302, b"", Location=self.path.removeprefix("/moved"))
                if data is None:
                    return self.answer(404, b"")
                if not site.ranges:
                    return self.answer(200, data)
                first, last = map(int, re.findall(r"\d+", self.headers["Range"]))
                if first >= len(data):
                    return self.answer(416, b"")
                part = data[first : last + 1]
                place = f"bytes {first}-{first + len(part) - 1}/{len(data)}"
                return self.answer(206, part, **{"Content-Range": place})

            def answer(self, status: int, body: bytes, **headers: str) -> None:
                self.send_response(status)
                for name, value in {"Content-Length": str(len(body)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: object) -> None:
                return

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()


@pytest.fixture
def site() -> Iterator[RangeSite]:
    site = RangeSite()
    yield site
    site.server.shutdown()
    site.server.server_close()


def images(kind: str, uri: str) -> list[str]:
    source = SourceRecipe.model_validate({"name": "s", "kind": kind, "uri": uri})
    return [record.image for record in open_source(source, STORAGE).records()]


def test_sources_are_read_through_redirects_and_passing_faults(site):
    site.files["/a.json"] = json.dumps([{"image": "1.jpg"}, {"image": "2.jpg"}]).encode()
    out = io.BytesIO()
    pq.write_table(pa.table({"image": pa.array([{"bytes": b"x"}], pa.struct([("bytes", pa.binary())]))}), out)
    site.files["/d/t.parquet"] = out.getvalue()
    site.faults = 2
    assert images("sharegpt4v", f"{site.url}/moved/a.json") == ["1.jpg", "2.jpg"]
    assert images("hf_parquet", f"{site.url}/d/t.parquet") == ["t.parquet#0"]


def test_ranges_end_where_the_file_ends(site):
    site.files |= {"/a": b"0123456789", "/empty": b""}
    files = Files(STORAGE)
    assert files.size(f"{site.url}/a") == 10
    assert files.read(f"{site.url}/a", 8, 100) == b"89"
    assert files.read(f"{site.url}/a", 10, 100) == b""
    assert files.size(f"{site.url}/empty") == 0


def test_what_cannot_be_read_is_told_apart(site):
    files = Files(STORAGE)
    with pytest.raises(ObjectMissingError, match="/none"):
        files.size(f"{site.url}/none")
    site.files["/a"] = b"0123456789"
    site.ranges = False
    with pytest.raises(BadInputError, match="download it"):
        files.size(f"{site.url}/a")
    site.faults = 100
    with pytest.raises(StoreError, match="503"):
        files.size(f"{site.url}/a")
    with pytest.raises(BadInputError, match="cannot be listed"):
        files.expand(f"{site.url}/folder", (".tar",))
