"""Where lanes run: as processes of this machine here, on a work pool in `tasks.deployed_lanes`."""

import contextlib
import os
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Protocol

import psutil
from prefect.settings import PREFECT_API_URL

from caprl_core.engines.reaper import MARK, Reaper, kill_marked

LANE_MARK = "CAPRL_LANE"
"""Environment variable that names the lane a process belongs to, its engine's processes included."""
STOP_S = 20.0
"""Seconds a lane may take to flush its logs and close its engine: less than the 25 s a stopped run has itself."""
LAST_WORDS = 500
"""Characters of a lane's output that are worth repeating when it fails."""


class LaneState(Enum):
    """How a lane stands. TAKEN has a worker and has not begun; FAILED ended by itself and says so; CRASHED was ended,
    and nobody knows how far it was."""

    WAITING = "waiting"
    TAKEN = "taken"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CRASHED = "crashed"

    @property
    def ended(self) -> bool:
        """Nothing more comes of it."""
        return self in (LaneState.DONE, LaneState.FAILED, LaneState.CRASHED)


class LaneHost(Protocol):
    """Starts and ends lanes; `number` is the caller's name for one. Used from the flow's thread."""

    def free(self) -> int:
        """Lanes that may be started now."""
        ...

    def start(self, number: int, units: str, work: str) -> None:
        """Start a lane with these units, written as `caprl_core.shards.slices.show_units` does.

        `work` is the key of the object that says what else there is to do (`caprl_core.shards.lane_work`).
        """
        ...

    def states(self) -> dict[int, LaneState]:
        """Of every lane started and not forgotten."""
        ...

    def last_words(self, number: int) -> str:
        """What is known about its end."""
        ...

    def stop(self, number: int) -> None:
        """Ask a lane to flush its logs and end; does not wait."""
        ...

    def close(self) -> None:
        """Stop every lane. Idempotent."""
        ...


@dataclass(slots=True)
class _Lane:
    process: subprocess.Popen[bytes]
    device: int
    mark: str
    output: Path
    kill_at: float | None = None
    gone: bool = False


class LocalLanes:
    """Lanes as processes of this machine, each with a GPU (or group of them) that no other lane has.

    `devices` has one entry a lane: its `CUDA_VISIBLE_DEVICES`, or None to leave that alone. A device is free again when
    every process of its lane is gone, the engine's too. When this process is killed, a helper kills the lanes.
    """

    def __init__(self, module: str, arguments: Sequence[str], devices: Sequence[str | None]) -> None:
        self._command = [sys.executable, "-m", module, *arguments]
        self._devices = list(devices)
        self._lanes: dict[int, _Lane] = {}
        self._scratch = tempfile.TemporaryDirectory(prefix="caprl-lanes-")
        self._reaper = Reaper()
        self._reaper.start()

    def free(self) -> int:
        """Devices nobody holds."""
        return len(self._devices) - len(self._taken())

    def start(self, number: int, units: str, work: str) -> None:
        """Start a lane on a free device."""
        taken = self._taken()
        device = next(index for index in range(len(self._devices)) if index not in taken)
        output = Path(self._scratch.name) / f"lane-{number}.log"
        mark = uuid.uuid4().hex
        with output.open("wb") as file:
            process = subprocess.Popen(  # noqa: S603 - our own module and arguments of our making
                [*self._command, "--shards", units, "--work", work, "--json"],
                env=self._environment(self._devices[device], mark),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                # Ctrl-C ends the run first, which then ends its lanes.
                start_new_session=True,
            )
        self._lanes[number] = _Lane(process, device, mark, output)

    def states(self) -> dict[int, LaneState]:
        """Look at every process; those that did not stop in time are killed."""
        return {number: self._state(lane) for number, lane in self._lanes.items()}

    def last_words(self, number: int) -> str:
        """The end of its output."""
        return self._lanes[number].output.read_text(errors="replace")[-LAST_WORDS:].strip()

    def stop(self, number: int) -> None:
        """SIGTERM; SIGKILL follows in `states` if it does not help."""
        lane = self._lanes[number]
        if lane.kill_at is None and lane.process.poll() is None:
            lane.kill_at = time.monotonic() + STOP_S
            lane.process.terminate()

    def close(self) -> None:
        """Stop every lane and wait until each is gone."""
        for number in self._lanes:
            self.stop(number)
        deadline = time.monotonic() + STOP_S
        while time.monotonic() < deadline and not all(state.ended for state in self.states().values()):
            time.sleep(0.05)
        kill_marked(self._reaper.mark)
        for lane in self._lanes.values():
            lane.process.wait()
        self._reaper.stop()
        self._scratch.cleanup()

    def _taken(self) -> set[int]:
        return {lane.device for lane in self._lanes.values() if not self._state(lane).ended}

    def _state(self, lane: _Lane) -> LaneState:
        code = lane.process.poll()
        if code is None:
            if lane.kill_at is not None and time.monotonic() > lane.kill_at:
                lane.process.kill()
            return LaneState.RUNNING
        if not lane.gone:
            if _processes(lane.mark):
                # Its helper is about to kill them. Only then is the GPU free.
                return LaneState.RUNNING
            lane.gone = True
        if code == 0:
            return LaneState.DONE
        return LaneState.CRASHED if code < 0 or code >= 128 else LaneState.FAILED

    def _environment(self, device: str | None, mark: str) -> dict[str, str]:
        # What belongs to the flow run of this process is not the lane's.
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT__")}
        added = {LANE_MARK: mark, MARK: self._reaper.mark}
        if (url := PREFECT_API_URL.value()) is not None:
            added["PREFECT_API_URL"] = url
        if device is not None:
            added["CUDA_VISIBLE_DEVICES"] = device
        return inherited | added


def _processes(mark: str) -> list[psutil.Process]:
    """Processes of a lane that live, its helper apart, which ends by itself once the others are gone."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.environ().get(LANE_MARK) != mark or process.status() == psutil.STATUS_ZOMBIE:
                continue
            if not any("caprl_core.engines.reaper" in word for word in process.cmdline()):
                found.append(process)
    return found
