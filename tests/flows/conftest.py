"""A real Prefect server for the session, a stub engine, and recipes in files."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from caprl_core.world.stub_server import StubServer
from support.drawn_dataset import draw_pictures, recipe_for
from support.stub_thread import running_stub


@pytest.fixture(scope="session")
def prefect_api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a Prefect server with a database of its own; flows run in this process report to it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
        patch.setenv("DO_NOT_TRACK", "1")
        patch.setenv("PREFECT_HOME", str(tmp_path_factory.mktemp("prefect")))
        from prefect.settings import PREFECT_API_URL
        from prefect.testing.utilities import prefect_test_harness

        with prefect_test_harness(server_startup_timeout=120):
            yield str(PREFECT_API_URL.value())


@pytest.fixture
def stub() -> Iterator[StubServer]:
    with running_stub() as server:
        yield server


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return draw_pictures(tmp_path / "images", 60)


@pytest.fixture
def recipe_file(tmp_path: Path, images: Path, stub: StubServer) -> Callable[..., str]:
    """`recipe_file(output, **changes)` writes a recipe of 6 shards and returns its path."""

    def write(output: str, **changes: Any) -> str:
        engine = {"kind": "openai", "urls": [stub.url], "served_name": "stub", "concurrency": 4, "dead_after_s": 0.5}
        values = {"dataset__shard_samples": 10, "execution__engine": engine} | changes
        path = tmp_path / "recipe.yaml"
        path.write_text(yaml.safe_dump(recipe_for(images, output, **values).model_dump(mode="json")))
        return str(path)

    return write
