"""`python -m flows.caption_dataset` as people run it: killed, stopped, resumed, mistyped."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from caprl_core.recipe.load import load_recipe
from caprl_core.shards.dataset import open_dataset
from caprl_core.shards.verify import verify
from caprl_core.storage.commit import list_units
from caprl_core.storage.layout import Unit
from caprl_core.storage.log import read_log
from caprl_core.storage.store import Store
from caprl_core.world.stub_server import StubBehaviour, StubServer
from support.stub_thread import seeds

RecipeFile = Callable[..., str]
MARK = "CAPRL_TEST_RUN"


class Run:
    """A run of the flow; every process it starts carries a mark in its environment."""

    def __init__(self, config: str, mark: str, *arguments: str, **environment: str) -> None:
        self._mark = mark
        self.process = subprocess.Popen(
            [sys.executable, "-m", "flows.caption_dataset", "--config", config, "--json", *arguments],
            env=os.environ | environment | {MARK: mark},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def until(self, event: str) -> dict[str, Any]:
        """The first event of a kind."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            found = json.loads(line)
            if found["event"] == event:
                return found
        raise AssertionError(f"ended without {event!r}: {self.process.stderr.read()}")  # type: ignore[union-attr]

    def end(self) -> tuple[int, list[dict[str, Any]]]:
        """Exit code and the remaining events."""
        out, _ = self.process.communicate(timeout=120)
        return self.process.returncode, [json.loads(line) for line in out.splitlines()]

    def left_behind(self) -> list[psutil.Process]:
        """Processes of this run that still live."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get(MARK) == self._mark and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except psutil.Error:
                continue
        return found


@pytest.fixture
def start(prefect_api: str, tmp_path: Path) -> Iterator[Callable[..., Run]]:
    """Start a run; with `own_server=True` it has no Prefect server and starts one."""
    runs: list[Run] = []

    def begin(config: str, *arguments: str, own_server: bool = False) -> Run:
        environment = {"PREFECT_HOME": str(tmp_path / "prefect")} if own_server else {"PREFECT_API_URL": prefect_api}
        runs.append(Run(config, f"{tmp_path}/{len(runs)}", *arguments, **environment))
        return runs[-1]

    yield begin
    for run in runs:
        for process in run.left_behind():
            process.kill()
        run.process.communicate()


def logged(store: Store, shards: int) -> int:
    """Samples that are committed or in a log."""
    committed = {unit.shard for unit in list_units(store)}
    return sum(10 if shard in committed else len(read_log(store, Unit(shard, 0))) for shard in range(shards))


def gone(run: Run) -> bool:
    """No process of a run is left, given the helpers' moment to notice its end."""
    for _ in range(100):
        if not run.left_behind():
            return True
        time.sleep(0.1)
    return False


@pytest.fixture
def slow_stub(stub: StubServer) -> StubServer:
    """Slow enough for a signal to come in the middle of a shard."""
    stub.behaviour = StubBehaviour(median_s=0.2, sigma=0.5)
    return stub


def test_killed_and_run_again_asks_nothing_that_was_in_the_log(
    recipe_file: RecipeFile, bucket: str, slow_stub: StubServer, start: Callable[..., Run]
) -> None:
    in_flight, window = 2, 6
    runner = {"shards_in_flight": in_flight, "window": window, "flush_s": 0.1, "decode_workers": 1}
    config = recipe_file(f"s3://{bucket}/drawn", execution__runner=runner)
    recipe = load_recipe(config)
    store = Store(recipe.execution.output)
    first = start(config)
    first.until("shard")
    first.process.send_signal(signal.SIGKILL)
    assert first.process.wait() == -signal.SIGKILL
    assert gone(first), first.left_behind()
    kept, asked = logged(store, 6), seeds(slow_stub)
    assert 10 <= kept < 60

    code, events = start(config).end()
    assert code == 0
    summary = events[-1]
    assert summary["event"] == "summary"
    assert summary["samples_done"] == 60
    # What was committed is not worked, what was logged is resumed, the rest is asked: nothing else.
    assert summary["samples_asked"] == 60 - kept
    again = set(asked) & set(seeds(slow_stub)[len(asked) :])
    assert len(again) <= in_flight * window
    assert len(asked) - kept == len(again)
    report = verify(open_dataset(store, recipe), deep=True)
    assert report.sound
    assert (report.rows, report.pending) == (60, 0)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_a_signal_stops_it_cleanly(
    recipe_file: RecipeFile, tmp_path: Path, slow_stub: StubServer, start: Callable[..., Run], number: signal.Signals
) -> None:
    config = recipe_file(str(tmp_path / "out"), execution__runner={"flush_s": 60.0, "decode_workers": 1})
    run = start(config, own_server=number == signal.SIGTERM)
    run.until("started")
    while slow_stub.replies < 4:
        time.sleep(0.01)
    run.process.send_signal(number)
    run.process.send_signal(number)  # an impatient operator does no harm
    code, events = run.end()
    assert code == 128 + number
    assert events[-1] == {"event": "stopped", "signal": number.name}
    assert gone(run), run.left_behind()
    # Fewer than half a window wait a minute for a flush: what the log has was flushed by the stop.
    assert logged(Store(str(tmp_path / "out")), 6) >= 3


def test_a_mistyped_recipe_ends_with_2_before_anything_starts(tmp_path: Path, start: Callable[..., Run]) -> None:
    config = tmp_path / "recipe.yaml"
    config.write_text("nmae: wrong\n")
    code, events = start(str(config), own_server=True).end()
    assert code == 2
    assert [event["event"] for event in events] == ["error"]
    assert "nmae" in events[0]["error"]


def test_a_quarantine_ends_with_5(
    recipe_file: RecipeFile, images: Path, tmp_path: Path, start: Callable[..., Run]
) -> None:
    for path in sorted(images.iterdir())[:10]:
        path.write_bytes(b"no picture at all")
    config = recipe_file(str(tmp_path / "out"), execution__gate={"min_samples": 5})
    code, events = start(config, "--max-shards", "1").end()
    assert code == 5
    told = [event["event"] for event in events if event["event"] != "progress"]  # told by the clock
    assert told[-2:] == ["quarantined", "error"]


def test_a_signal_while_the_engine_loads_ends_it_too(
    recipe_file: RecipeFile, tmp_path: Path, stub: StubServer, start: Callable[..., Run]
) -> None:
    stub.behaviour = StubBehaviour(loading_s=600)
    config = recipe_file(str(tmp_path / "out"), execution__engine__dead_after_s=600.0)
    run = start(config)
    run.until("started")
    time.sleep(2)  # by then a shard waits for the engine, which waits for its server
    run.process.send_signal(signal.SIGTERM)
    code, events = run.end()
    assert code == 143
    assert events[-1]["event"] == "stopped"
    assert not any("at once" in event.get("note", "") for event in events), "it had to be forced"
    assert gone(run), run.left_behind()
