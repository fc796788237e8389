"""The demo's commands: shown, followed, stopped, and never left behind."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from caprl_core.world.demo.commands import Commands, DemoError
from caprl_core.world.demo.files import DemoFolder
from support.demo_parts import ReadTerminal, commands_in


@pytest.fixture
def terminal() -> ReadTerminal:
    return ReadTerminal()


@pytest.fixture
def commands(tmp_path: Path, terminal: ReadTerminal) -> Commands:
    return commands_in(DemoFolder(tmp_path), terminal)


Started = Callable[[], list[psutil.Process]]


def children() -> set[psutil.Process]:
    """Every living process below this one, those of other tests' fixtures among them (S3 and Prefect servers)."""
    return {one for one in psutil.Process().children(recursive=True) if one.status() != psutil.STATUS_ZOMBIE}


@pytest.fixture
def started() -> Started:
    """What this test started and still runs."""
    before = children()
    return lambda: list(children() - before)


def test_a_command_is_shown_as_one_would_type_it_and_then_what_it_says(
    commands: Commands, terminal: ReadTerminal, tmp_path: Path
) -> None:
    said = commands.run("world", "draw", tmp_path / "pictures", "--count", "2")
    assert said == f"2 pictures, {tmp_path / 'pictures' / 'scenes.jsonl'}"
    lines = [line.strip() for line in terminal.text.splitlines()]
    assert lines[0] == f"$ caprl world draw {tmp_path / 'pictures'} --count 2"
    assert said in lines


def test_a_path_below_the_working_directory_is_shown_from_there(
    commands: Commands, terminal: ReadTerminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The modules must still be found.
    monkeypatch.setenv("PYTHONPATH", str(Path.cwd()))
    commands = commands_in(DemoFolder(tmp_path), terminal)
    monkeypatch.chdir(tmp_path)
    commands.run("world", "draw", tmp_path / "a b", "--count", "1")
    assert "$ caprl world draw 'a b' --count 1" in terminal.text
    assert (tmp_path / "a b" / "scenes.jsonl").exists()


def test_what_is_for_us_to_read_is_not_shown(commands: Commands, terminal: ReadTerminal) -> None:
    said = commands.run("world", "models", shown=False)
    assert "captioner" in said
    assert "captioner" not in terminal.text


def test_a_failed_command_tells_how_it_ended_and_its_last_words(commands: Commands, tmp_path: Path) -> None:
    with pytest.raises(DemoError) as failed:
        commands.run("status", tmp_path / "no-such.yaml")
    assert f"`caprl status {tmp_path / 'no-such.yaml'}`: it ended with 2" in str(failed.value)
    assert "no-such.yaml" in str(failed.value).partition("\n")[2], "what it wrote to standard error"


def test_an_event_of_a_failure_ends_the_demo_with_its_text(
    commands: Commands, tmp_path: Path, started: Started
) -> None:
    recipe = tmp_path / "bad.yaml"
    recipe.write_text("name: bad\nsurces: []\n")
    with (
        pytest.raises(DemoError, match="surces: unknown key"),
        commands.follow("annotate", recipe, "--json") as run,
    ):
        list(run.events())
    assert started() == []


def test_a_command_that_is_left_is_stopped_with_all_that_it_started(
    commands: Commands, tmp_path: Path, started: Started
) -> None:
    with (
        pytest.raises(KeyboardInterrupt),
        commands.follow("world", "rebuild", "reader", "--out", tmp_path, "--steps", "2000", "--json"),
    ):
        assert started()
        raise KeyboardInterrupt
    assert started() == []


def test_a_command_that_does_not_stop_when_asked_is_killed(
    commands: Commands, tmp_path: Path, started: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("caprl_core.world.demo.commands.STOP_S", 0.2)
    with commands.follow("world", "rebuild", "reader", "--out", tmp_path, "--steps", "2000", "--json"):
        (process,) = started()
        # A stopped process cannot hear SIGTERM.
        os.kill(process.pid, signal.SIGSTOP)
    assert not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def test_a_killed_command_is_gone_at_once(commands: Commands, tmp_path: Path, started: Started) -> None:
    with commands.follow("world", "rebuild", "reader", "--out", tmp_path, "--steps", "2000", "--json") as run:
        (process,) = started()
        run.kill()
        assert not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def test_the_log_says_which_command_wrote_what(commands: Commands, tmp_path: Path) -> None:
    commands.run("world", "models", shown=False)
    with pytest.raises(DemoError):
        commands.run("status", tmp_path / "no-such.yaml")
    log = (tmp_path / "commands.log").read_text()
    first, second = log.index("$ caprl world models"), log.index("$ caprl status")
    assert first < second < log.index("no-such.yaml: ")
