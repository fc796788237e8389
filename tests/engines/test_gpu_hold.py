"""One GPU, one lane: with real processes, and whatever kills them."""

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from caprl_core.engines.gpu_hold import hold_gpus
from caprl_core.engines.reaper import MARK
from caprl_core.errors import BadInputError, GpuHeldError

LANE = """
import os, subprocess, sys, time
from pathlib import Path
from caprl_core.engines.gpu_hold import hold_gpus
from caprl_core.engines.reaper import Reaper
with hold_gpus(sys.argv[1], wait_s=60, folder=Path(sys.argv[2])):
    reaper = Reaper()
    reaper.start()
    core = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"],
                            env=os.environ | reaper.environment())
    print(core.pid, reaper._helper.pid, flush=True)
    if sys.stdin.readline() == "end\\n":
        core.kill()
        core.wait()
        reaper.stop()
print("left", flush=True)
sys.stdin.readline()
"""


class LaneProcess:
    """A lane with an engine: a process that holds devices, its engine's core and its helper."""

    def __init__(self, devices: str, folder: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", LANE, devices, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.core: psutil.Process
        self.helper: psutil.Process

    def begun(self) -> "LaneProcess":
        assert self.process.stdout is not None
        core, helper = self.process.stdout.readline().split()
        self.core, self.helper = psutil.Process(int(core)), psutil.Process(int(helper))
        while MARK not in self.core.environ():
            time.sleep(0.01)
        return self

    def end(self) -> None:
        """Close the engine and leave the hold; the process goes on."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("end\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "left\n"

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def lanes(tmp_path: Path) -> Iterator[list[LaneProcess]]:
    started: list[LaneProcess] = []
    yield started
    for lane in started:
        lane.kill()
        for process in (getattr(lane, "core", None), getattr(lane, "helper", None)):
            if process is not None and lives(process):
                process.kill()


def lives(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def lane(lanes: list[LaneProcess], devices: str, folder: Path) -> LaneProcess:
    lanes.append(LaneProcess(devices, folder))
    return lanes[-1].begun()


def test_a_device_that_is_held_is_refused_with_the_holder_and_other_devices_are_free(
    lanes: list[LaneProcess], tmp_path: Path
) -> None:
    first = lane(lanes, "0,1", tmp_path)
    told: list[str] = []
    with (
        pytest.raises(GpuHeldError, match=rf"GPU 1 is held by process {first.process.pid} .*two lanes never share one"),
        hold_gpus("1,2", wait_s=0.5, tell=told.append, folder=tmp_path),
    ):
        pytest.fail("held twice")
    assert len(told) == 1
    assert f"GPU 1 is held by process {first.process.pid}" in told[0]
    with hold_gpus("2,3", wait_s=0, folder=tmp_path) as devices:  # the 2 it had taken before the 1 is free again
        assert devices == ("2", "3")


def test_a_hold_ends_with_its_block(lanes: list[LaneProcess], tmp_path: Path) -> None:
    first = lane(lanes, "0", tmp_path)
    first.end()
    with hold_gpus("0", wait_s=0, folder=tmp_path):
        assert first.process.poll() is None


def test_a_killed_lane_keeps_its_device_until_its_engine_is_gone(lanes: list[LaneProcess], tmp_path: Path) -> None:
    first = lane(lanes, "0", tmp_path)
    first.helper.suspend()  # the moment between the lane's death and the end of its engine
    first.kill()
    assert lives(first.core)
    with (
        pytest.raises(GpuHeldError, match="what is left of process"),
        hold_gpus("0", wait_s=1, tell=lambda _: None, folder=tmp_path),
    ):
        pytest.fail("the engine of the lane before is still on the device")
    first.helper.resume()
    with hold_gpus("0", wait_s=60, folder=tmp_path):
        assert not lives(first.core)


def test_the_next_lane_waits_for_an_orphan_whose_worker_was_killed(lanes: list[LaneProcess], tmp_path: Path) -> None:
    """A worker starts a lane, is killed, and its successor with the same device starts the next."""
    worker = subprocess.Popen(
        [sys.executable, "-c", "import subprocess, sys; subprocess.Popen(sys.argv[1:]).wait()",
         sys.executable, "-c", LANE, "0", str(tmp_path)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert worker.stdout is not None
    core, _ = worker.stdout.readline().split()
    engine = psutil.Process(int(core))
    orphan = engine.parent()
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    assert orphan is not None
    assert lives(orphan)
    following = LaneProcess("0", tmp_path)
    lanes.append(following)
    assert following.process.stdout is not None
    assert select.select([following.process.stdout], [], [], 3.0)[0] == [], "it had to wait"
    orphan.kill()
    following.begun()
    assert not lives(engine), "the engine of the lane before was still there"


def test_an_engine_without_lane_and_helper_is_killed_by_the_next_holder(
    lanes: list[LaneProcess], tmp_path: Path
) -> None:
    first = lane(lanes, "0", tmp_path)
    first.helper.kill()
    first.kill()
    assert lives(first.core)
    told: list[str] = []
    with hold_gpus("0", wait_s=60, tell=told.append, folder=tmp_path):
        assert not lives(first.core)
    # The kernel may take a moment to let go of the lock of a killed process; that is told first.
    assert told[-1] == f"GPU 0: killing what is left of the engine of process {first.process.pid}"


def test_twenty_processes_take_turns(tmp_path: Path) -> None:
    """Each checks that nobody else is inside: a file that only its maker may find."""
    program = """
import os, sys, time
from pathlib import Path
from caprl_core.engines.gpu_hold import hold_gpus
inside = Path(sys.argv[1]) / "inside"
with hold_gpus("1,0" if os.getpid() % 2 else "0,1", wait_s=120, tell=lambda _: None, folder=Path(sys.argv[1])):
    os.close(os.open(inside, os.O_CREAT | os.O_EXCL))
    time.sleep(0.05)
    inside.unlink()
    if os.getpid() % 3 == 0:
        os.kill(os.getpid(), 9)
"""
    running = [subprocess.Popen([sys.executable, "-c", program, str(tmp_path)]) for _ in range(20)]
    assert {process.wait(180) for process in running} <= {0, -signal.SIGKILL}


def test_no_device_is_no_hold(tmp_path: Path) -> None:
    for _ in range(2):
        with hold_gpus("", folder=tmp_path) as devices, hold_gpus("", folder=tmp_path):
            assert devices == ()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["../../escape", "GPU-8f/0/1", "MIG-1d5 2", "x" * 300, "a\x00b"])
def test_no_name_of_a_device_leaves_the_folder(tmp_path: Path, name: str) -> None:
    place = tmp_path / "locks"
    place.mkdir()
    with ExitStack() as holds:
        holds.enter_context(hold_gpus(name, wait_s=0, folder=place))
        with pytest.raises(GpuHeldError):
            holds.enter_context(hold_gpus(name, wait_s=0, folder=place))
    assert [path.name for path in tmp_path.iterdir()] == ["locks"]
    assert len(list((place / f"caprl-gpus-{os.getuid()}").iterdir())) == 1


def test_a_folder_that_is_not_ours_alone_is_refused(tmp_path: Path) -> None:
    mine = tmp_path / f"caprl-gpus-{os.getuid()}"
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    mine.symlink_to(elsewhere)
    with pytest.raises(BadInputError, match="cannot be used"), hold_gpus("0", folder=tmp_path):
        pytest.fail("followed a link")
    mine.unlink()
    mine.mkdir()
    mine.chmod(0o777)
    with pytest.raises(BadInputError, match="others can write"), hold_gpus("0", folder=tmp_path):
        pytest.fail("used a folder of everybody")
    mine.chmod(0o700)
    target = tmp_path / "target"
    (mine / "0").symlink_to(target)
    with pytest.raises(OSError, match="symbolic links"), hold_gpus("0", folder=tmp_path):
        pytest.fail("followed a link")
    assert not target.exists()


def a_driver(folder: Path, listing: str) -> str:
    """A PATH on which `nvidia-smi` lists these devices."""
    folder.mkdir()
    program = folder / "nvidia-smi"
    program.write_text(f"#!/bin/sh\nprintf '{listing}'\n")
    program.chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"


def test_a_device_is_the_same_by_number_and_by_uuid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", a_driver(tmp_path / "bin", r"0, GPU-aaa\n1, GPU-bbb\n"))
    with hold_gpus("0", folder=tmp_path):
        with pytest.raises(GpuHeldError, match="GPU-aaa"), hold_gpus("GPU-aaa", wait_s=0, folder=tmp_path):
            pass
        with hold_gpus("1", wait_s=0, folder=tmp_path) as other:
            assert other == ("1",)


def test_two_jobs_that_each_see_one_gpu_as_number_0_have_different_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", a_driver(tmp_path / "one", r"0, GPU-aaa\n"))
    with hold_gpus("0", folder=tmp_path):
        monkeypatch.setenv("PATH", a_driver(tmp_path / "two", r"0, GPU-bbb\n"))
        with hold_gpus("0", wait_s=0, folder=tmp_path) as held:
            assert held == ("0",)
