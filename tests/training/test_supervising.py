"""How training processes are watched over: events, errors, stopping with a checkpoint, and that none is left behind."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from caprl_core.errors import BadInputError, IdentityMismatchError
from caprl_core.training.supervising import TrainingFailedError, supervise

FAMILY = "CAPRL_TEST_FAMILY"
START = """
import json, os, signal, subprocess, sys, time

def tell(event, **facts):
    os.write(1, json.dumps({"event": event, **facts}).encode() + b"\\n")

"""


class Played:
    """A process that plays a training process, and what was told about it."""

    def __init__(self, folder: Path, script: str, *arguments: str) -> None:
        self.log = folder / "run" / "training.log"
        self.script = folder / f"{uuid.uuid4().hex}.py"
        self.script.write_text(START + textwrap.dedent(script))
        self.command = [sys.executable, str(self.script), *arguments]
        self.family = uuid.uuid4().hex
        self.stop = threading.Event()
        self.told: list[dict[str, Any]] = []

    def run(self, on: Callable[[dict[str, Any]], None] = lambda _: None, grace_s: float = 30.0) -> bool:
        def tell(event: dict[str, Any]) -> None:
            self.told.append(event)
            on(event)

        environment = {**os.environ, FAMILY: self.family}
        return supervise(self.command, environment, self.log, tell, self.stop, grace_s=grace_s)

    @property
    def events(self) -> list[str]:
        return [event["event"] for event in self.told]

    def left(self) -> list[psutil.Process]:
        return relatives(self.family)


def relatives(family: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(FAMILY) == family and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found


def none_left(family: str) -> bool:
    """Within the moment the helpers need to notice."""
    deadline = time.monotonic() + 30
    while relatives(family) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not relatives(family)


@pytest.fixture
def play(tmp_path: Path) -> Iterator[Callable[..., Played]]:
    played: list[Played] = []

    def begin(script: str, *arguments: str) -> Played:
        played.append(Played(tmp_path, script, *arguments))
        return played[-1]

    yield begin
    for one in played:
        for process in one.left():
            process.kill()


def test_events_are_told_and_everything_else_is_logged(play: Callable[..., Played]) -> None:
    one = play("""
        tell("begin", step=0)
        print("{not json}")
        print('{"no": "event"}')
        print("loading", flush=True)
        print("a warning", file=sys.stderr)
        tell("step", step=1, reward=None)
        tell("done", step=1)
    """)
    assert one.run()
    assert one.told == [
        {"event": "begin", "step": 0},
        {"event": "step", "step": 1, "reward": None},
        {"event": "done", "step": 1},
    ]
    logged = one.log.read_text()
    assert str(one.script) in logged.splitlines()[0]
    for line in ("{not json}", '{"no": "event"}', "loading", "a warning"):
        assert line in logged.splitlines()


def test_a_failure_carries_the_end_of_its_own_log(play: Callable[..., Played]) -> None:
    one = play("raise RuntimeError('of an attempt before')")
    with pytest.raises(TrainingFailedError):
        one.run()
    two = play("""
        for number in range(1000):
            print("line", number, file=sys.stderr)
        raise MemoryError("CUDA out of memory")
    """)
    with pytest.raises(TrainingFailedError, match=r"(?s)ended with exit code 1.*CUDA out of memory") as failed:
        two.run()
    assert "of an attempt before" in two.log.read_text()
    assert "of an attempt before" not in str(failed.value)
    assert "line 0\n" not in str(failed.value)
    killed = play("os.kill(os.getpid(), signal.SIGKILL)")
    with pytest.raises(TrainingFailedError, match="was killed by SIGKILL"):
        killed.run()


@pytest.mark.parametrize(
    ("kind", "raised"), [(BadInputError,) * 2, (IdentityMismatchError,) * 2, (RuntimeError, TrainingFailedError)]
)
def test_an_error_it_tells_is_raised_as_what_it_is(
    play: Callable[..., Played], kind: type[Exception], raised: type[Exception]
) -> None:
    one = play("tell('error', kind=sys.argv[1], error='questions.train: no such file'); sys.exit(2)", kind.__name__)
    with pytest.raises(raised, match=r"^questions\.train: no such file$"):
        one.run()


SAVES = """
    engine = subprocess.Popen(["sleep", "600"])  # in the same session, as an engine of the reader's
    def save(*_):
        assert engine.poll() is None, "the engine was stopped first"
        time.sleep(1)
        tell("saved", step=7)
        tell("stopped", step=7, reason="signal")
        sys.exit(130)
    signal.signal(signal.SIGTERM, save)
    tell("begin", step=0)
    time.sleep(600)
"""


def test_asked_to_stop_it_has_time_to_save_and_nothing_is_left(play: Callable[..., Played]) -> None:
    one = play(SAVES)
    assert not one.run(on=lambda event: one.stop.set())
    assert one.events == ["begin", "stopping", "saved", "stopped"]
    assert none_left(one.family)


class Signalled(BaseException):
    """As a signal's handler raises it."""


def test_a_signal_in_the_watching_thread_stops_it_likewise(play: Callable[..., Played]) -> None:
    one = play(SAVES)

    def interrupt(event: dict[str, Any]) -> None:
        if event["event"] == "begin":
            raise Signalled

    with pytest.raises(Signalled):
        one.run(on=interrupt)
    assert one.events == ["begin", "stopping", "saved", "stopped"]
    assert none_left(one.family)


def test_one_that_will_not_stop_is_killed_when_its_time_is_up(play: Callable[..., Played]) -> None:
    one = play("""
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        child = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
        subprocess.Popen([sys.executable, "-c", child], start_new_session=True)
        tell("begin", step=0)
        time.sleep(600)
    """)
    assert not one.run(on=lambda event: one.stop.set(), grace_s=1.0)
    assert one.events == ["begin", "stopping"]
    assert none_left(one.family)


def test_killed_with_its_engine_the_engines_own_helper_still_ends_what_the_engine_started(
    play: Callable[..., Played],
) -> None:
    one = play("""
        from caprl_core.engines.reaper import Reaper
        reaper = Reaper()
        reaper.start()
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        environment = os.environ | reaper.environment()
        subprocess.Popen(["sleep", "600"], env=environment, start_new_session=True)
        tell("begin", step=0)
        time.sleep(600)
    """)
    assert not one.run(on=lambda event: one.stop.set(), grace_s=1.0)
    assert none_left(one.family)


def test_what_a_finished_process_leaves_behind_is_ended(play: Callable[..., Played]) -> None:
    # It holds standard output open, too: waiting for the end of the events would take for ever.
    one = play("subprocess.Popen(['sleep', '600'], start_new_session=True); tell('done', step=1)")
    assert one.run()
    assert one.events == ["done"]
    assert none_left(one.family)


def test_stopped_by_somebody_else_it_is_to_be_resumed(play: Callable[..., Played]) -> None:
    one = play(SAVES)

    def terminate(event: dict[str, Any]) -> None:
        if event["event"] == "begin":
            next(p for p in one.left() if str(one.script) in p.cmdline()).terminate()

    assert not one.run(on=terminate)
    assert "stopping" not in one.events


def test_two_runs_do_not_share_a_folder(play: Callable[..., Played], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("caprl_core.training.supervising.LOCK_WAIT_S", 0.5)
    first = play("tell('begin', step=0); time.sleep(600)")
    refused: list[BaseException] = []

    def second(event: dict[str, Any]) -> None:
        if event["event"] == "begin":
            try:
                play("tell('begin', step=0)").run()
            except BadInputError as error:
                refused.append(error)
            first.stop.set()

    assert not first.run(on=second)
    assert "another training runs in" in str(refused[0])
    assert play("tell('done', step=0)").run(), "and once it has ended, the folder is free"


WATCHER = """
import os, sys, threading
from pathlib import Path
from caprl_core.training.supervising import supervise
print("watching", flush=True)
supervise([sys.executable, sys.argv[1]], dict(os.environ), Path(sys.argv[2]), lambda event: print(event, flush=True),
          threading.Event())
"""


def test_killed_with_its_watcher_no_process_is_left_and_the_folder_is_free(
    play: Callable[..., Played], tmp_path: Path
) -> None:
    one = play("""
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        subprocess.Popen(["sleep", "600"], start_new_session=True)
        tell("begin", step=0)
        time.sleep(600)
    """)
    watcher = subprocess.Popen(
        [sys.executable, "-c", WATCHER, str(one.script), str(one.log)],
        env={**os.environ, FAMILY: one.family},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert watcher.stdout is not None
    with watcher.stdout:
        assert watcher.stdout.readline() == "watching\n"
        assert "begin" in watcher.stdout.readline()
    watcher.send_signal(signal.SIGKILL)
    watcher.wait()
    assert none_left(one.family)
    assert play("tell('done', step=0)").run()


def test_a_launcher_is_left_to_end_by_itself_when_its_processes_are_asked(tmp_path: Path) -> None:
    """Two real processes of torch's launcher, which would kill its own after 30 s: the signal goes to them alone."""
    (tmp_path / "ranked.py").write_text(
        START
        + textwrap.dedent("""
            asked = []
            signal.signal(signal.SIGTERM, lambda *_: asked.append(1))
            tell("begin", rank=os.environ["RANK"])
            while not asked:
                time.sleep(0.01)
            time.sleep(1)
            tell("stopped", reason="signal", rank=os.environ["RANK"], asked=len(asked))
            sys.exit(130)
        """)
    )
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "ranked"]
    family, stop, told = uuid.uuid4().hex, threading.Event(), []
    environment = {**os.environ, FAMILY: family, "PYTHONPATH": str(tmp_path)}

    def tell(event: dict[str, Any]) -> None:
        told.append(event)
        if [one["event"] for one in told].count("begin") == 2:
            stop.set()

    assert not supervise(command, environment, tmp_path / "training.log", tell, stop)
    ended = [event for event in told if event["event"] == "stopped"]
    assert sorted(json.loads(event["rank"]) for event in ended) == [0, 1]
    assert [event["asked"] for event in ended] == [1, 1]
    assert none_left(family)
