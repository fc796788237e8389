"""An S3 server of its own process (moto's), with a count of the requests it got.

`python -m bench.s3_server` prints its URL and serves; `GET /__counts__` answers the counts by kind and resets them.
"""

import json
import logging
import os
import subprocess
import sys
import threading
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, Self

import boto3
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

from caprl_core.world.s3_server import OneCreateAtATime

BUCKET = "bench"


class Counting:
    """WSGI middleware."""

    def __init__(self, application: Callable[..., Iterable[bytes]]) -> None:
        self._application = application
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()

    def __call__(self, environment: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environment["PATH_INFO"] == "/__counts__":
            with self._lock:
                body = json.dumps(self._counts).encode()
                self._counts.clear()
            start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
            return [body]
        kind = "LIST" if "list-type=2" in environment.get("QUERY_STRING", "") else environment["REQUEST_METHOD"]
        with self._lock:
            self._counts[kind] += 1
        return self._application(environment, start_response)


class S3Server:
    """Use as a context manager: starts the server, makes `BUCKET`, and points this process's AWS variables at it."""

    def __enter__(self) -> Self:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            del os.environ[name]
        self._process = subprocess.Popen([sys.executable, "-m", "bench.s3_server"], stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().strip()
        os.environ |= {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "bench",
            "AWS_SECRET_ACCESS_KEY": "bench",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        boto3.client("s3").create_bucket(Bucket=BUCKET)
        return self

    def counts(self) -> dict[str, int]:
        """Requests by kind since the last call."""
        with urllib.request.urlopen(f"{self.url}/__counts__") as answer:
            counts: dict[str, int] = json.load(answer)
        return counts

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.wait()


def main() -> None:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    # Without kept-alive connections every request would pay for a new one, which no S3 store asks for.
    WSGIRequestHandler.protocol_version = "HTTP/1.1"
    application = OneCreateAtATime(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, Counting(application), threaded=True)
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
