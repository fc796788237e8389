"""Runs for the page to show."""

from pathlib import Path

import pytest

from support.training_run import write_training_run


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 60 steps, looked at every 10. Tests read it only."""
    folder = tmp_path_factory.mktemp("runs") / "colours"
    write_training_run(folder)
    return folder


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of a few steps to be changed: evaluated at 0, 4 and 8."""
    folder = tmp_path / "small"
    write_training_run(folder, steps=8, every=4, pictures=2, captioned=3)
    return folder
