"""What can be seen from outside of lanes: which have a process on which device, and which asked the model when."""

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import psutil

from caprl_core.engines.reaper import MARK
from caprl_core.world.stub_server import StubServer

RUN_ID = "PREFECT__FLOW_RUN_ID"
"""Environment variable in which a worker tells a flow run's process which it is."""


class DeviceWatch:
    """Looks several times a second which flow runs have an engine, and a live process, on which device."""

    def __init__(self, engines: "EngineBook") -> None:
        self._engines = engines
        self.devices: dict[str, str] = {}
        """Run -> device, of every lane ever seen."""
        self.now: dict[str, set[str]] = {}
        """Device -> runs on it now."""
        self._known: dict[tuple[int, float], tuple[str, str] | None] = {}
        self._stop = threading.Event()

    @property
    def doubled(self) -> list[str]:
        """Two engines on one device at a time, in words."""
        return self._engines.doubled(self.devices)

    @contextlib.contextmanager
    def of(self, mark: str) -> Iterator[None]:
        """Watch the processes that carry this mark."""
        thread = threading.Thread(target=self._look_again_and_again, args=(mark,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join()

    def _look_again_and_again(self, mark: str) -> None:
        while not self._stop.wait(0.2):
            now: dict[str, set[str]] = {}
            for process in psutil.process_iter():
                with contextlib.suppress(psutil.Error, OSError):
                    found = self._lane(process, mark)
                    if found is not None and process.status() != psutil.STATUS_ZOMBIE:
                        device, run = found
                        self.devices[run] = device
                        if run in self._engines.starts:
                            now.setdefault(device, set()).add(run)
            self.now = now

    def _lane(self, process: psutil.Process, mark: str) -> tuple[str, str] | None:
        key = (process.pid, process.create_time())
        if self._known.get(key) is None:
            environment = process.environ()
            device = environment.get("CUDA_VISIBLE_DEVICES")
            ours = environment.get(MARK) == mark and bool(device) and RUN_ID in environment
            self._known[key] = (str(device), environment[RUN_ID]) if ours else None
        return self._known[key]


class EngineBook:
    """What the model's server sees of engines, by the flow run whose id they have for a key."""

    def __init__(self, stub: StubServer) -> None:
        self.starts: Counter[str] = Counter()
        """Run -> how often it asked for the models, which an engine does once, when it starts."""
        self._started: dict[str, float] = {}
        self._last_asked: dict[str, float] = {}
        self._answer = stub._without_model
        stub._without_model = self._note  # type: ignore[method-assign]

    def _note(self, method: str, path: str, headers: Mapping[str, str]) -> tuple[int, dict[str, Any]] | None:
        run = headers.get("authorization", "").removeprefix("Bearer ")
        if path == "/v1/models":
            self.starts[run] += 1
            self._started.setdefault(run, time.monotonic())
        self._last_asked[run] = time.monotonic()
        return self._answer(method, path, headers)

    def doubled(self, devices: Mapping[str, str]) -> list[str]:
        """Runs that asked when a later one had started its engine on the same device (run -> device), in words."""
        return [
            f"{device}: {run} asked after {later} had started"
            for run, device in devices.items()
            for later, place in devices.items()
            if place == device and self._before(run, later)
        ]

    def _before(self, run: str, later: str) -> bool:
        """Whether a run's engine started before the later one's and was still asking then."""
        if run not in self._started or later not in self._started:
            return False
        return self._started[run] < self._started[later] < self._last_asked[run]
