"""Lanes: slices of a dataset's shards in processes of their own, one engine each, handed out by the captioning flow."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from caprl_core.errors import BadInputError, IncompleteError, ObjectMissingError, ShardQuarantinedError, StoreError
from caprl_core.recipe.load import load_recipe
from caprl_core.shards.dataset import open_dataset
from caprl_core.shards.verify import VerifyReport, verify
from caprl_core.storage.commit import list_units
from caprl_core.storage.layout import ATTEMPTS
from caprl_core.storage.store import Store
from caprl_core.world.stub_server import StubBehaviour, StubServer
from flows import lane_signs, lanes_run
from flows.caption_dataset import caption_dataset
from flows.caption_shards import caption_shards
from flows.sweep_dataset import sweep_dataset
from support.stub_thread import seeds
from tasks import lanes
from tasks.lanes import LANE_MARK

RecipeFile = Callable[..., str]
pytestmark = pytest.mark.usefixtures("prefect_api")
SMALL = {"shards_in_flight": 3, "window": 4, "flush_s": 0.05, "decode_workers": 1}
SHARD_SAMPLES = 10
SHARED = SMALL["shards_in_flight"] * SHARD_SAMPLES
"""Samples that may be asked twice without any death: at the very end the lane that is through first goes on from the
log of the shards that the other has begun."""


@pytest.fixture
def starts(stub: StubServer, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The device of every engine that asked the stub what it serves, which an engine does once, when it starts.

    It is told as the API key: recipes of these tests take theirs from `CUDA_VISIBLE_DEVICES`.
    """
    seen: list[str] = []
    answer = stub._without_model

    def listen(method: str, path: str, headers: Mapping[str, str]) -> tuple[int, dict[str, Any]] | None:
        if path == "/v1/models":
            seen.append(headers.get("authorization", "").removeprefix("Bearer "))
        return answer(method, path, headers)

    monkeypatch.setattr(stub, "_without_model", listen)
    return seen


@pytest.fixture
def config(recipe_file: RecipeFile, tmp_path: Path) -> str:
    return recipe_file(
        str(tmp_path / "out"),
        execution__runner=SMALL,
        execution__engine__api_key_env="CUDA_VISIBLE_DEVICES",
    )


def check(config: str) -> VerifyReport:
    recipe = load_recipe(config)
    report = verify(open_dataset(Store(recipe.execution.output), recipe), deep=True)
    assert report.sound, report.problems
    return report


def logged_seeds(store: Store) -> list[int]:
    """Of the samples that are in the logs of attempts now."""
    found = []
    for key in [item.key for item in store.list(ATTEMPTS) if "/log/" in item.key]:
        with suppress(ObjectMissingError):  # swept meanwhile, as its shard is committed
            found += [json.loads(line)["row"]["seed"] for line in store.get(key).splitlines()]
    return found


def lanes_alive() -> dict[int, str]:
    """Pid -> device of the lanes that live: children of this process with a lane's mark, their decoders apart."""
    found = {}
    for process in psutil.Process().children():
        try:
            environment = process.environ()
            if LANE_MARK in environment and "flows.caption_shards" in process.cmdline():
                found[process.pid] = environment.get("CUDA_VISIBLE_DEVICES", "")
        except psutil.Error:
            continue
    return found


def marked() -> list[psutil.Process]:
    """Every process of any lane that this process or a child of it has started."""
    found = []
    for process in psutil.process_iter():
        try:
            mine = process.environ().get("CAPRL_TEST_LANES") == str(os.getpid())
            if mine and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


@contextmanager
def watching(look: Callable[[dict[int, str]], None]) -> Iterator[None]:
    """Call `look` with the lanes alive, again and again."""
    over = threading.Event()

    def loop() -> None:
        while not over.wait(0.05):
            look(lanes_alive())

    thread = threading.Thread(target=loop)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def test_a_lane_works_its_slice_and_nothing_else(config: str, stub: StubServer, starts: list[str]) -> None:
    caption_dataset(config, max_shards=1)
    del starts[:]
    summary = caption_shards(config, "0-2,4")
    assert (summary["shards_committed"], summary["rows"]) == (3, 30)
    assert {unit.shard for unit in list_units(Store(load_recipe(config).execution.output))} == {0, 1, 2, 4}
    assert len(starts) == 1, "an engine for each shard"
    asked = len(stub.requests)
    assert caption_shards(config, [0, 1, 2])["shards_committed"] == 0
    assert (len(starts), len(stub.requests)) == (1, asked), "an engine was loaded for nothing"


def test_a_slice_the_dataset_has_not_is_refused(config: str) -> None:
    with pytest.raises(BadInputError, match="no dataset here yet"):
        caption_shards(config, "0")
    caption_dataset(config, max_shards=1)
    with pytest.raises(BadInputError, match="6 is not within 0-5"):
        caption_shards(config, "4,6")
    with pytest.raises(BadInputError, match="'four' is not a shard"):
        caption_shards(config, "four")


def test_local_lanes_have_a_gpu_each_and_load_one_engine_each(
    config: str, stub: StubServer, starts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "fake0,fake1")
    stub.behaviour = StubBehaviour(median_s=2.0, sigma=0.2)
    seen: list[dict[int, str]] = []

    def look(alive: dict[int, str]) -> None:
        seen.append(alive)
        if len(starts) == 2:
            # Before that one lane could have done all of it while the other was being started.
            stub.behaviour = StubBehaviour(median_s=0.1, sigma=0.2)

    with watching(look):
        summary = caption_dataset(config, lanes=0)
    assert (summary["rows"], summary["shards_committed"], summary["samples_asked"]) == (60, 6, 60)
    assert (check(config).rows, check(config).pending) == (60, 0)
    assert len(set(seeds(stub))) == 60
    assert len(stub.requests) - 60 <= SHARED, "samples were asked twice"
    for alive in seen:
        assert len(set(alive.values())) == len(alive), f"one GPU, two lanes: {alive}"
    assert max(len(alive) for alive in seen) == 2
    processes = {pid for alive in seen for pid in alive}
    assert set(starts) == {"fake0", "fake1"}
    assert len(starts) == len(processes) == 2, "an engine for each shard, not for each lane"
    assert not lanes_alive()


def test_more_lanes_than_gpus_are_refused(config: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "fake0,fake1")
    with pytest.raises(BadInputError, match="two lanes never share one"):
        caption_dataset(config, lanes=3)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(BadInputError, match="say how many lanes"):
        caption_dataset(config, lanes=0)


def test_the_shards_of_a_killed_lane_go_to_another_though_the_store_is_away_for_a_moment(
    config: str, stub: StubServer, starts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "fake0,fake1")
    stub.behaviour = StubBehaviour(median_s=0.2, sigma=0.2)
    killed: list[int] = []
    logged: list[int] = []
    away: list[float] = []
    listing = Store.list

    def kill_one(alive: dict[int, str]) -> None:
        if not killed and stub.replies > 5:
            for pid, device in alive.items():
                if device == "fake0":
                    os.kill(pid, signal.SIGKILL)
                    logged.extend(logged_seeds(Store(load_recipe(config).execution.output)))
                    killed.append(pid)

    def fail_at_first(self: Store, prefix: str) -> Any:
        if killed and (not away or time.monotonic() - away[0] < 3):
            away.append(time.monotonic())
            raise StoreError("to order")
        return listing(self, prefix)

    monkeypatch.setattr(Store, "list", fail_at_first)  # in this process alone: lanes have their own
    with watching(kill_one):
        summary = caption_dataset(config, lanes=0)
    assert killed
    assert len(away) > 1
    assert (summary["rows"], summary["shards_failed"]) == (60, [])
    assert (check(config).rows, check(config).pending) == (60, 0)
    # What was in the log is not asked again; of the lost lane's shards at most a window each was not.
    # (Samples have seeds; what proves that an engine lives has none.)
    asked = Counter(request["seed"] for request in stub.requests if "seed" in request)
    assert logged
    assert {asked[seed] for seed in logged} == {1}
    assert asked.total() - 60 <= SMALL["window"] * SMALL["shards_in_flight"] + SHARED


def test_a_bucket_that_stays_away_ends_the_run_later_than_the_lanes_would_wait(
    recipe_file: RecipeFile, tmp_path: Path, stub: StubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    stub.behaviour = StubBehaviour(median_s=0.5, sigma=0.2)
    config = recipe_file(str(tmp_path / "out"), execution__runner=SMALL, execution__storage={"outage_s": 1.0})
    monkeypatch.setattr(lanes_run, "AWAY_S", 3.0)
    away: list[float] = []
    listing = Store.list

    def fail_for_good(self: Store, prefix: str) -> Any:
        if away or stub.replies > 3:
            away.append(time.monotonic())
            raise StoreError("to order")
        return listing(self, prefix)

    monkeypatch.setattr(Store, "list", fail_for_good)
    with pytest.raises(StoreError, match="to order"):
        caption_dataset(config, lanes=1)
    assert away[-1] - away[0] > 1.0
    assert not lanes_alive()


@pytest.mark.long
def test_the_shards_of_a_lane_that_falls_silent_go_to_another(
    config: str, stub: StubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "fake0,fake1")
    monkeypatch.setattr(lanes, "STOP_S", 2.0)  # frozen, it does not hear SIGTERM either
    monkeypatch.setattr(lane_signs, "SILENT_BEYOND_S", -1e6)
    stub.behaviour = StubBehaviour(median_s=0.2, sigma=0.2)
    frozen: list[int] = []

    def freeze_one(alive: dict[int, str]) -> None:
        if frozen:
            # Short only while the frozen one lives: others take long to start on a busy machine.
            monkeypatch.setattr(lane_signs, "SILENT_S", 6.0 if frozen[0] in alive else 900.0)
        elif stub.replies > 5:
            for pid, device in alive.items():
                if device == "fake0":
                    frozen.append(pid)
                    os.kill(pid, signal.SIGSTOP)

    with watching(freeze_one):
        summary = caption_dataset(config, lanes=0)
    assert frozen
    assert not psutil.pid_exists(frozen[0]), "it still holds its GPU"
    assert (summary["rows"], summary["shards_failed"]) == (60, [])
    assert (check(config).rows, check(config).pending) == (60, 0)


def test_a_quarantined_shard_is_told_and_not_tried_again(
    recipe_file: RecipeFile, images: Path, tmp_path: Path, stub: StubServer
) -> None:
    config = recipe_file(str(tmp_path / "out"), execution__runner=SMALL, execution__gate={"min_samples": 5})
    for path in sorted(images.iterdir())[:10]:
        path.write_bytes(b"no picture at all")
    with pytest.raises(ShardQuarantinedError, match="1 of 2 shards did not commit"):
        caption_dataset(config, max_shards=2, lanes=1)
    assert len(list(Store(str(tmp_path / "out")).list("quarantine"))) == 1
    assert {unit.shard for unit in list_units(Store(str(tmp_path / "out")))} == {1}


def test_lanes_that_all_fail_end_the_run(config: str, stub: StubServer) -> None:
    stub.behaviour = StubBehaviour(model="another")
    with pytest.raises(IncompleteError, match="6 lanes in a row ended without a sample"):
        caption_dataset(config, max_shards=1, lanes=1)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
def test_ending_the_parent_ends_every_lane(
    config: str, stub: StubServer, prefect_api: str, number: signal.Signals, tmp_path: Path
) -> None:
    stub.behaviour = StubBehaviour(median_s=0.5, sigma=0.2)
    environment = {"PREFECT_API_URL": prefect_api, "CUDA_VISIBLE_DEVICES": "a,b", "CAPRL_TEST_LANES": str(os.getpid())}
    parent = subprocess.Popen(
        [sys.executable, "-m", "flows.caption_dataset", "--config", config, "--lanes", "2", "--json"],
        env=os.environ | environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        while stub.replies < 8:
            assert parent.poll() is None
            time.sleep(0.05)
        parent.send_signal(number)
        assert parent.wait(60) == (143 if number == signal.SIGTERM else -signal.SIGKILL)
        for _ in range(200):
            if not marked():
                break
            time.sleep(0.1)
        assert not marked()
    finally:
        for process in marked():
            process.kill()
    asked = len(stub.requests)
    time.sleep(1)
    assert len(stub.requests) == asked, "somebody still asks"
    stub.behaviour = StubBehaviour()
    assert caption_dataset(config)["samples_done"] == 60
    assert check(config).pending == 0


def test_sweep_deletes_what_dead_attempts_left_and_keeps_what_a_resume_needs(config: str) -> None:
    caption_dataset(config, max_shards=1)
    store = Store(load_recipe(config).execution.output)
    left, needed = "attempts/000000.r000/1-dead/data.tar", "attempts/000001.r000/1-dead/log/000000-0000001.jsonl"
    store.put(left, b"a loser's tar")
    store.put(needed, b"{}\n")
    assert sweep_dataset(config, dry_run=True)["objects"] == 1
    assert {item.key for item in store.list("attempts")} == {left, needed}
    assert sweep_dataset(config)["objects"] == 1
    assert {item.key for item in store.list("attempts")} == {needed}
    assert sweep_dataset(config)["objects"] == 0
