"""What carries the reaper's mark dies with the process that started it, whatever kills that process."""

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest

from caprl_core.engines.reaper import MARK, Reaper, kill_marked

FAMILY = """
import os, subprocess, sys, time
from caprl_core.engines.reaper import Reaper
reaper = Reaper()
reaper.start()
child = "import subprocess, sys, time; subprocess.Popen(['sleep', '600']); time.sleep(600)"
# As vLLM's core: in the same group, and deaf to polite signals.
subprocess.Popen([sys.executable, "-c", "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + child],
                 env=os.environ | reaper.environment())
print("ready", flush=True)
if sys.argv[1] == "leave":
    time.sleep(1)
    sys.exit(0)
time.sleep(600)
"""


def relatives(family: str) -> list[psutil.Process]:
    """Living processes that carry the test's own mark."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("FAMILY") == family and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found


@contextmanager
def family_of(how: str) -> Iterator[tuple[subprocess.Popen, str]]:
    name = uuid.uuid4().hex
    parent = subprocess.Popen(
        [sys.executable, "-c", FAMILY, how], env=os.environ | {"FAMILY": name}, stdout=subprocess.PIPE, text=True
    )
    try:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "ready\n"
        while len(relatives(name)) < 4:  # parent, reaper, child, grandchild
            time.sleep(0.05)
        yield parent, name
    finally:
        parent.kill()
        parent.wait()
        for process in relatives(name):
            process.kill()


def wait_until_gone(name: str) -> list[psutil.Process]:
    deadline = time.monotonic() + 30
    while (left := relatives(name)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return left


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_killed_parent_takes_its_engine_along(how: signal.Signals) -> None:
    with family_of("stay") as (parent, name):
        parent.send_signal(how)
        parent.wait()
        assert wait_until_gone(name) == []


def test_a_parent_that_ends_without_closing_takes_its_engine_along() -> None:
    with family_of("leave") as (parent, name):
        assert parent.wait() == 0
        assert wait_until_gone(name) == []


def mark_of(pid: int) -> str:
    """On a busy machine a new process may not have its own environment yet."""
    deadline = time.monotonic() + 30
    while MARK not in (found := psutil.Process(pid).environ()) and time.monotonic() < deadline:
        time.sleep(0.01)
    return found[MARK]


def test_a_stopped_reaper_kills_nothing_and_a_mark_finds_only_its_own() -> None:
    reaper, other = Reaper(), Reaper()
    reaper.start()
    sleepers = [subprocess.Popen(["sleep", "600"], env=os.environ | owner.environment()) for owner in (reaper, other)]
    try:
        assert mark_of(sleepers[0].pid) == reaper.mark
        reaper.stop()
        reaper.stop()
        assert kill_marked(reaper.mark) == 1
        assert sleepers[0].wait() == -signal.SIGKILL
        assert sleepers[1].poll() is None
    finally:
        for sleeper in sleepers:
            sleeper.kill()
            sleeper.wait()
