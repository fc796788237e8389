"""A local S3 server (moto's) for the demo: no authentication, everything in this process's memory, gone with it."""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import httpx

from caprl_core.errors import BadInputError

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class OneCreateAtATime:
    """WSGI middleware: conditional PUTs are served one after the other.

    moto looks whether the object exists and then stores it, without a lock: of 8 creates racing on two cores 2 were
    seen to win. With the lock it keeps the promise of AWS S3 and Ceph RGW, on which the commit protocol rests.
    """

    def __init__(self, application: Application) -> None:
        self._application = application
        self._lock = threading.Lock()

    def __call__(self, environment: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Serve a request."""
        if environment["REQUEST_METHOD"] == "PUT" and "HTTP_IF_NONE_MATCH" in environment:
            with self._lock:
                return list(self._application(environment, start_response))
        return self._application(environment, start_response)


@contextmanager
def s3_server() -> Iterator[str]:
    """A server on a free port of this machine; yields its endpoint URL. Raises `BadInputError` without moto."""
    try:
        from moto.server import DomainDispatcherApplication, create_backend_app  # noqa: PLC0415 - an optional part
        from werkzeug.serving import WSGIRequestHandler, make_server  # noqa: PLC0415 - comes with moto
    except ImportError as error:
        raise BadInputError("the local S3 server needs moto: install caprl-factory[demo]") from error

    class Quiet(WSGIRequestHandler):
        """No line for each request; kept-alive connections, as S3 has."""

        protocol_version = "HTTP/1.1"

        def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
            """Say nothing."""

    application = OneCreateAtATime(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, application, threaded=True, request_handler=Quiet)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def make_bucket(endpoint: str, bucket: str) -> None:
    """Create an empty bucket on a server that wants no credentials."""
    httpx.put(f"{endpoint}/{bucket}", timeout=30.0, trust_env=False).raise_for_status()


def client_environment(endpoint: str, environment: Mapping[str, str]) -> dict[str, str]:
    """`environment` with the AWS settings replaced, so that a client talks to this server and to no other."""
    kept = {name: value for name, value in environment.items() if not name.startswith("AWS_")}
    return kept | {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "demo",
        "AWS_SECRET_ACCESS_KEY": "demo",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
