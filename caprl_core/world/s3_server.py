"""A local S3 server (moto's) for the demo: no authentication, everything in this process's memory, gone with it."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import httpx

from caprl_core.errors import BadInputError


@contextmanager
def s3_server() -> Iterator[str]:
    """A server on a free port of this machine; yields its endpoint URL. Raises `BadInputError` without moto."""
    try:
        from moto.server import ThreadedMotoServer  # noqa: PLC0415 - an optional part
    except ImportError as error:
        raise BadInputError("the local S3 server needs moto: install caprl-factory[demo]") from error
    access_log = logging.getLogger("werkzeug")
    level = access_log.level
    access_log.setLevel(logging.ERROR)  # moto's `verbose=False` spares the banner, not a line for each request
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield f"http://{host}:{port}"
    finally:
        server.stop()
        access_log.setLevel(level)


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
