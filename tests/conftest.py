"""Fixtures every test may use: a real S3 server (moto's) with a fresh bucket, and the corpus of pictures."""

import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from hypothesis import HealthCheck, settings

from caprl_core.world.s3_server import client_environment, s3_server

# On a busy machine drawing or checking a case may be slow, which is no fault of the property.
settings.register_profile("daily", deadline=None, suppress_health_check=[HealthCheck.too_slow])
# `make test-nightly`: as many cases of each property as a night allows; a failure prints the line that repeats it.
settings.register_profile("nightly", settings.get_profile("daily"), max_examples=100_000, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "daily"))

CORPUS = Path(__file__).resolve().parents[2] / "shared" / "corpus"


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """URL of a running S3 server; the AWS_* variables of this process point at it, so children inherit them.

    CAPRL_TEST_S3_ENDPOINT names another server to test against (Ceph, MinIO, …), with keys in the AWS_* variables.
    """
    if (other := os.environ.get("CAPRL_TEST_S3_ENDPOINT")) is not None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("AWS_ENDPOINT_URL", other)
            yield other
        return
    with s3_server() as endpoint, pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        for name, value in client_environment(endpoint, {}).items():
            patch.setenv(name, value)
        yield endpoint


@pytest.fixture(scope="session")
def s3_client(s3_endpoint: str) -> Any:
    """A boto3 client of `s3_endpoint`: making one takes a third of a second."""
    return boto3.client("s3", endpoint_url=s3_endpoint)


@pytest.fixture
def bucket(s3_client: Any) -> str:
    """Name of a new, empty bucket on `s3_endpoint`."""
    name = f"test-{uuid.uuid4().hex[:16]}"
    s3_client.create_bucket(Bucket=name)
    return name


@pytest.fixture(scope="session")
def corpus() -> Path:
    """Folder with `images/` (good) and `bad_images/` (hostile); the test is skipped where it is absent."""
    if not CORPUS.is_dir():
        pytest.skip(f"no corpus of pictures at {CORPUS}")
    return CORPUS
