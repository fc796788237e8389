"""Pictures to caption, and a port to listen on."""

import socket
from pathlib import Path

import pytest

from support.drawn_dataset import draw_pictures


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return draw_pictures(tmp_path / "images", 60)


@pytest.fixture
def port() -> int:
    """A port nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
