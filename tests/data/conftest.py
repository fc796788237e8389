"""A place to put files into: a local folder or a bucket, with the same calls."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest


@dataclass(frozen=True)
class Place:
    """`put` writes a file below `uri`, which is a local folder or an `s3://` prefix."""

    uri: str
    put: Callable[[str, bytes], str]


def local_place(folder: Path) -> Place:
    def put(name: str, data: bytes) -> str:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return str(path)

    return Place(str(folder), put)


def s3_place(bucket: str, client: Any) -> Place:
    def put(name: str, data: bytes) -> str:
        client.put_object(Bucket=bucket, Key=f"data/{name}", Body=data)
        return f"s3://{bucket}/data/{name}"

    return Place(f"s3://{bucket}/data", put)


@pytest.fixture(params=["local", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """Each test that asks for it runs on the local disk and on S3."""
    if request.param == "local":
        return local_place(tmp_path / "place")
    return s3_place(request.getfixturevalue("bucket"), request.getfixturevalue("s3_client"))
