"""The real commands of the factory, as processes: run to their end, or followed event by event; none outlives us."""

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NoReturn

from caprl_core.errors import CaprlError
from caprl_core.world.demo.terminal import Terminal

STOP_S: Final = 30.0
"""What a command needs at most to end by itself when asked: runs flush their logs and close their engines."""
_SHOWN_LINES: Final = 15  # of a failed command's standard error
_FAILURES: Final = ("error", "failed", "quarantined")

Event = Mapping[str, Any]


class DemoError(CaprlError):
    """A step of the demo did not do what it should."""


class Commands:
    """Runs `caprl …` with `environment`; standard error goes to the file `log`, and its end is shown on failure."""

    def __init__(self, environment: Mapping[str, str], log: Path, terminal: Terminal) -> None:
        self._environment = environment
        self._log = log
        self._terminal = terminal

    def run(self, *words: str | Path, shown: bool = True) -> str:
        """Run a command to its end and return what it printed, which is shown unless it is for us to read.

        Raises `DemoError` when it fails.
        """
        with self.follow(*words) as command, self._terminal.busy("working"):
            lines = list(command.lines())
            command.ended()
        if shown:
            self._terminal.say("\n".join(lines))
        return "\n".join(lines)

    @contextmanager
    def follow(self, *words: str | Path) -> Iterator["Command"]:
        """A command that is begun; at the end of the context it is stopped if it has not ended."""
        given = [_near(word) if isinstance(word, Path) else word for word in words]
        text = shlex.join(["caprl", *given])
        self._terminal.command(text)
        with self._log.open("ab") as log:
            log.write(f"\n$ {text}\n".encode())
            log.flush()
            command = Command(text, given, self._environment, self._log, log.fileno())
        try:
            yield command
        finally:
            command.stop()


class Command:
    """A `caprl` process in a group of its own. Text of it is read line by line."""

    def __init__(self, text: str, words: Sequence[str], environment: Mapping[str, str], log: Path, error: int) -> None:
        self._text = text
        self._log = log
        self._began = log.stat().st_size
        self._process = subprocess.Popen(  # noqa: S603 - our own module
            [sys.executable, "-m", "caprl_core.cli", *words],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=error,
            text=True,
            errors="replace",
            start_new_session=True,
        )

    def lines(self) -> Iterator[str]:
        """What it prints, until it ends."""
        assert self._process.stdout is not None  # noqa: S101 - it was opened as a pipe
        for line in self._process.stdout:
            yield line.rstrip("\n")

    def events(self) -> Iterator[Event]:
        """Its JSON lines; an engine in its process may print others. Raises `DemoError` for one of a failure."""
        for line in self.lines():
            if not line.startswith('{"event"'):
                continue
            event = json.loads(line)
            if event["event"] in _FAILURES:
                self._fail(str(event.get("error", event)))
            yield event

    def ended(self) -> None:
        """Wait for its end. Raises `DemoError` unless it went well."""
        try:
            code = self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._fail(f"it has not ended {STOP_S:.0f} s after its last line")
        if code:
            self._fail(f"it ended with {code}; the end of {self._log}:\n{self._last_words()}")

    def kill(self) -> None:
        """SIGKILL to the whole group, as a power cut would."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def stop(self) -> None:
        """Ask it to end, and kill what is left of it then."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                pass
            finally:
                self.kill()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def _fail(self, why: str) -> NoReturn:
        raise DemoError(f"`{self._text}`: {why}")

    def _last_words(self) -> str:
        with self._log.open("rb") as file:
            file.seek(self._began)
            lines = file.read().decode("utf-8", "replace").splitlines()
        return "\n".join(lines[-_SHOWN_LINES:]) or "(it said nothing)"


def _near(path: Path) -> str:
    """The path as one would type it here."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)
