"""Whether two texts mean the same mathematics: math-verify 0.9.0, asked in a process of its own. Safe in threads.

The process is started by the first question that needs it (about 2 s), serves all threads of this one in turn, and ends
with it. Why it is a process of its own stands in `equivalence_worker`. Nothing is pickled: lines of JSON go both ways.
"""

import atexit
import functools
import json
import os
import re
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

from caprl_core.errors import CaprlError

MAX_CHARACTERS = 2000
"""Longer texts are compared as texts only. Our choice: an answer to be compared is a line, not a page."""

START_SECONDS = 120.0
"""A cold disk and a busy machine included; 2 s is usual."""

ANSWER_SECONDS = 120.0
"""Of wall time, for a process that no longer reacts; its processor time is limited to seconds by itself."""

_WORKER = Path(__file__).with_name("equivalence_worker.py")
_KEPT = ("HOME", "LANG", "LC_ALL", "PATH", "SYSTEMROOT", "TMPDIR")
_PLAIN = re.compile(r"-?\d{1,9}(?:\.\d{1,6})?", re.ASCII)
"""Numbers that need no mathematics: math-verify rounds to 6 decimals, so these are the same when they are equal."""


class ReleasedEquivalence(NamedTuple):
    """What the released script gets from math-verify for one gold answer and one boxed answer.

    reads: the gold answer was read, as an expression or as text; same: they are the same; last: the last reading of the
    boxed answer, which the script goes on to score as text.
    """

    reads: bool
    same: bool
    last: str


def equivalent(gold: str, answer: str) -> bool:
    """True when `answer` is mathematically `gold`: equal texts or numbers, or what math-verify holds to be the same
    (numbers to 6 decimals; 50 % is 50 and 0.5; `x = 3` is 3; sets in any order). Not symmetric: gold first.

    False for what it cannot read, and for what takes more than `equivalence_worker.CPU_SECONDS` of processor time.
    """
    gold, answer = gold.strip(), answer.strip()
    if gold == answer:
        return True
    if _PLAIN.fullmatch(gold) and _PLAIN.fullmatch(answer):
        return Decimal(gold) == Decimal(answer)
    if max(len(gold), len(answer)) > MAX_CHARACTERS or not answer:
        return False
    return bool(_asked("same", gold, answer).get("same", False))


def reads(gold: str) -> bool:
    """True when math-verify finds an expression in `gold`."""
    if _PLAIN.fullmatch(gold.strip()):
        return True
    return len(gold) <= MAX_CHARACTERS and bool(_asked("reads", gold, "").get("reads", False))


def released_equivalence(gold: str, answer: str) -> ReleasedEquivalence:
    """As the released script asks it. Out of time or too long: gold read, not the same, the text itself."""
    if max(len(gold), len(answer)) > MAX_CHARACTERS:
        return ReleasedEquivalence(reads=True, same=False, last=answer)
    found = _asked("released", gold, answer)
    return ReleasedEquivalence(found.get("reads", True), found.get("same", False), found.get("last", answer))


class _Process:
    """The worker: started when needed, killed when it does not react, started again."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = 0

    def ask(self, question: dict[str, str]) -> dict[str, Any]:
        """The worker's answer; `failed` in it where there is none. Raises CaprlError if no worker can be started."""
        line = json.dumps(question).encode() + b"\n"
        with self._lock:
            # A process that was not ended by its limit of processor time may have died of something else: once more.
            for _ in range(2):
                process = self._running()
                try:
                    if process.stdin is not None:
                        process.stdin.write(line)
                    return _answered(process, ANSWER_SECONDS)
                except TimeoutError:
                    _end(process)
                    return {"failed": "time"}
                except OSError:
                    _end(process)
                    if process.returncode == -signal.SIGXCPU:
                        return {"failed": "time"}
            return {"failed": "ended"}

    def close(self) -> None:
        """End the worker, if this process started it."""
        with self._lock:
            if self._process is not None and self._owner == os.getpid():
                _end(self._process)
            self._process = None

    def _running(self) -> subprocess.Popen[bytes]:
        # After a fork the worker is the parent's: two processes reading its answers would mix them up.
        if self._process is not None and self._owner == os.getpid() and self._process.poll() is None:
            return self._process
        if self._owner != os.getpid():
            atexit.register(self.close)
        self._owner = os.getpid()
        # -P: beside the script lies a module called `math`, which must not be taken for the library's.
        self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and script
            [sys.executable, "-P", str(_WORKER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            env=_environment(),
            start_new_session=True,  # Ctrl-C is for the parent; the worker ends when its input does
        )
        try:
            _answered(self._process, START_SECONDS)
        except OSError as error:
            _end(self._process)
            raise CaprlError(
                f"mathematical answers cannot be compared: {sys.executable} {_WORKER} does not start "
                f"(exit code {self._process.returncode}); is math-verify installed?"
            ) from error
        return self._process


def _environment() -> dict[str, str]:
    """The parent's module search path and little else; the order of sets is the same in every run."""
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    paths = [str(Path(entry or ".").resolve()) for entry in sys.path]
    return {**kept, "PYTHONPATH": os.pathsep.join(paths), "PYTHONHASHSEED": "0"}


def _answered(process: subprocess.Popen[bytes], seconds: float) -> dict[str, Any]:
    """One line from the worker. Raises TimeoutError, or another OSError when it has ended or answers nonsense."""
    if process.stdout is None:
        raise BrokenPipeError("no pipe")
    deadline = time.monotonic() + seconds
    line = bytearray()
    with selectors.DefaultSelector() as waiting:
        waiting.register(process.stdout, selectors.EVENT_READ)
        while not line.endswith(b"\n"):
            if not waiting.select(deadline - time.monotonic()) and time.monotonic() >= deadline:
                raise TimeoutError("no answer")
            part = process.stdout.read(65536)
            if not part:
                raise BrokenPipeError("it has ended")
            line += part
    answer = json.loads(line)
    return answer if isinstance(answer, dict) else {"failed": "nonsense"}


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()


_PROCESS = _Process()


# The captions of an image mostly lead to the same few answers.
@functools.lru_cache(maxsize=100_000)
def _asked(ask: str, gold: str, answer: str) -> Mapping[str, Any]:
    return _PROCESS.ask({"ask": ask, "gold": gold, "answer": answer})
