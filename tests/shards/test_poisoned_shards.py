"""A sample that kills engines: its shard is quarantined and names it, its neighbours and all other shards go on."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from caprl_core.engines.protocol import Request
from caprl_core.errors import EngineDeadError, LaneGaveUpError, ShardQuarantinedError
from caprl_core.shards.dataset import Dataset
from caprl_core.shards.gate import accept, redo
from caprl_core.shards.lane import ENGINES_IN_VAIN, Lane
from caprl_core.shards.previous import read_results
from caprl_core.shards.suspects import groups
from caprl_core.shards.verify import verify
from caprl_core.storage.commit import list_units, read_commit
from caprl_core.storage.layout import ATTEMPTS, Unit
from caprl_core.storage.log import read_log
from caprl_core.storage.store import Store
from support.drawn_dataset import draw_pictures, lane_for, planned, recipe_for
from support.echo_engine import EchoEngine, caption_of
from support.poisoned_process import QUARANTINED

TRIES = 4
"""Attempts a shard task has: one and three retries (`tasks.retrying`)."""


class PoisonedEngine(EchoEngine):
    """Dies when it is asked about certain samples, and takes everybody in it along, as an engine's core does."""

    def __init__(self, poison: set[str], **settings: Any) -> None:
        super().__init__(latency_s=lambda _: 0.02, answer=self._reply, **settings)
        self.poison = poison
        self.dead = False
        self.died_with: set[str] = set()
        self._keys: Counter[str] = Counter()

    def _reply(self, request: Request) -> str:
        if request.request_id.split("/")[0] in self.poison and not self.dead:
            self.dead, self.died_with = True, set(self._keys)
        if self.dead:
            raise EngineDeadError("the engine's core has died")
        return caption_of(request)

    async def generate(self, request: Request) -> Any:
        key = request.request_id.split("/")[0]
        if self.dead:
            raise EngineDeadError("the engine's core has died")
        self._keys[key] += 1
        try:
            return await super().generate(request)
        finally:
            self._keys -= Counter([key])


class Lanes:
    """Lanes over one dataset, and every engine they have started."""

    def __init__(self, folder: Path, uri: str, pictures: int = 80, **changes: Any) -> None:
        self.recipe = recipe_for(draw_pictures(folder / "images", pictures), uri, **changes)
        self.dataset: Dataset = planned(self.recipe)
        self.engines: list[PoisonedEngine] = []
        self.poison: set[str] = set()

    def open(self) -> Lane:
        lane = lane_for(self.recipe, self.dataset, None)
        lane._open_engine = self._engine
        return lane

    def _engine(self, _: Any) -> PoisonedEngine:
        self.engines.append(PoisonedEngine(self.poison, concurrency=9))
        return self.engines[-1]

    def work(self, shards: int = 4) -> dict[int, Exception]:
        """All shards through one lane, neighbours overlapping, each tried as often as a task does; the failures."""
        failed: dict[int, Exception] = {}

        def one(shard: int) -> None:
            for _ in range(TRIES):
                try:
                    lane.run(Unit(shard, 0))
                    failed.pop(shard, None)
                    return
                except EngineDeadError as error:
                    failed[shard] = error
                except ShardQuarantinedError as error:
                    failed[shard] = error
                    return

        with self.open() as lane, ThreadPoolExecutor(shards) as pool:
            list(pool.map(one, range(shards)))
        return failed

    def asked(self) -> Counter[str]:
        """Samples, and how often each was."""
        keys = (request.split("/")[0] for engine in self.engines for request in engine.requests)
        return Counter(key for key in keys if not key.startswith("trifle"))


@pytest.fixture
def lanes(tmp_path: Path, bucket: str) -> Lanes:
    return Lanes(tmp_path, f"s3://{bucket}/d")


def test_a_sample_that_kills_its_engine_is_found_and_only_its_shard_is_quarantined(lanes: Lanes) -> None:
    killer = lanes.dataset.plan.shard_keys(1)[7]
    lanes.poison.add(killer)
    failed = lanes.work()
    assert list(failed) == [1]
    assert isinstance(failed[1], ShardQuarantinedError)
    assert killer in str(failed[1])
    company = [len(engine.died_with) for engine in lanes.engines]
    assert company[0] > 3 >= company[1] >= company[2] == 1, company
    assert company[3:] == [0], "its company gets smaller, and then no engine dies any more"
    assert list_units(lanes.dataset.store) == [Unit(0, 0), Unit(2, 0), Unit(3, 0)]
    logged = set(read_log(lanes.dataset.store, Unit(1, 0)))
    assert logged == set(lanes.dataset.plan.shard_keys(1)) - {killer}, "the rest of the shard is done"
    beside = set().union(*(engine.died_with for engine in lanes.engines)) - {killer}
    assert len(beside) >= 3
    asked = lanes.asked()
    assert asked[killer] == 3
    assert max(asked[key] for key in beside) <= 3
    # A reply that had come but was not in the log yet when the engine died is asked for again, as after any death.
    twice = [key for key, count in asked.items() if count > 1 and key not in beside | {killer}]
    assert len(twice) <= len(beside)


def test_an_accepted_shard_is_published_without_the_sample_and_asks_it_no_more(lanes: Lanes) -> None:
    killer = lanes.dataset.plan.shard_keys(1)[7]
    lanes.poison.add(killer)
    lanes.work()
    accept(lanes.dataset.store, Unit(1, 0))
    before = lanes.asked()[killer]
    assert lanes.work() == {}
    assert lanes.asked()[killer] == before
    record = read_commit(lanes.dataset.store, Unit(1, 0))
    assert record.reasons == {"engine_died": 1}
    assert read_results(lanes.dataset.store, record)[killer].ledger["detail"].startswith("3 engines died with it")
    report = verify(lanes.dataset, deep=True)
    assert report.sound, report.problems
    assert (report.rows, report.rejected, report.pending) == (79, 1, 0)


def test_a_shard_to_be_redone_has_a_clean_record(lanes: Lanes) -> None:
    killer = lanes.dataset.plan.shard_keys(1)[7]
    lanes.poison.add(killer)
    lanes.work()
    redo(lanes.dataset.store, Unit(1, 0))
    lanes.poison.clear()  # say, a newer engine
    started = len(lanes.engines)
    assert lanes.work() == {}
    assert [len(engine.requests) for engine in lanes.engines[started:]] == [20], (
        "no suspects, and nothing is taken over"
    )
    assert verify(lanes.dataset, deep=True).rows == 80


def test_deaths_count_over_lanes(lanes: Lanes) -> None:
    """Each death in a lane of its own, as on machines that go down with their engine."""
    killer = lanes.dataset.plan.shard_keys(0)[3]
    lanes.poison.add(killer)
    for _ in range(3):
        with lanes.open() as lane, pytest.raises(EngineDeadError):
            lane.run(Unit(0, 0))
    with lanes.open() as lane, pytest.raises(ShardQuarantinedError, match=killer):
        lane.run(Unit(0, 0))


@pytest.mark.parametrize("limit", [2, 5])
def test_the_number_of_deaths_is_a_setting(tmp_path: Path, limit: int) -> None:
    lanes = Lanes(tmp_path, str(tmp_path / "out"), 20, execution__runner__engine_deaths=limit)
    killer = lanes.dataset.plan.shard_keys(0)[3]
    lanes.poison.add(killer)
    for _ in range(limit):
        with lanes.open() as lane, pytest.raises(EngineDeadError):
            lane.run(Unit(0, 0))
    with lanes.open() as lane, pytest.raises(ShardQuarantinedError, match=killer):
        lane.run(Unit(0, 0))
    died_with = [engine.died_with for engine in lanes.engines]
    assert len(died_with) == limit + 1
    assert died_with[0] > {killer} == died_with[-2]


def test_two_killers_in_one_shard_are_both_found(tmp_path: Path) -> None:
    lanes = Lanes(tmp_path, str(tmp_path / "out"), 40)
    killers = {lanes.dataset.plan.shard_keys(0)[number] for number in (2, 17)}
    lanes.poison.update(killers)
    for _ in range(10):
        if isinstance(lanes.work(2).get(0), ShardQuarantinedError):
            break
    accept(lanes.dataset.store, Unit(0, 0))
    assert lanes.work(2) == {}
    results = read_results(lanes.dataset.store, read_commit(lanes.dataset.store, Unit(0, 0)))
    assert {key for key, result in results.items() if result.rejected} == killers
    assert verify(lanes.dataset, deep=True).rows == 38


class DeafEngine(EchoEngine):
    """A server that is there and answers nothing, until its engine is given up."""

    async def generate(self, request: Request) -> Any:
        self.requests.append(request.request_id)
        raise EngineDeadError("no request has been answered for 60 s")


def test_a_server_that_is_down_accuses_nobody_and_the_lane_gives_up(tmp_path: Path) -> None:
    lanes = Lanes(tmp_path, str(tmp_path / "out"), 20)
    deaf: list[DeafEngine] = []
    lane = lanes.open()
    lane._open_engine = lambda _: deaf.append(DeafEngine(9)) or deaf[-1]  # type: ignore[func-returns-value]
    with lane:
        for _ in range(ENGINES_IN_VAIN):
            with pytest.raises(EngineDeadError, match="60 s"):
                lane.run(Unit(0, 0))
        for _ in range(2):
            with pytest.raises(LaneGaveUpError, match=r"3 engines in a row .* no request has been answered"):
                lane.run(Unit(0, 0))
    assert len(deaf) == ENGINES_IN_VAIN
    assert [engine.requests for engine in deaf[1:]] == [["trifle-0/1/0"]] * 2
    assert lanes.work(1) == {}, "the next lane, with a server that is up, finds no condemned"
    assert verify(lanes.dataset, deep=True).rows == 20


def test_starts_that_fail_count_and_a_logged_sample_forgives_them(tmp_path: Path) -> None:
    lanes = Lanes(tmp_path, str(tmp_path / "out"), 20)
    starts: list[str] = []

    class Moody(EchoEngine):
        async def start(self) -> Any:
            starts.append("")
            if len(starts) in (1, 2, 4, 5, 6):
                raise EngineDeadError("no memory left on the GPU")
            return await super().start()

        async def generate(self, request: Request) -> Any:
            if len(self.requests) > 3:
                raise EngineDeadError("the engine went away")
            return await super().generate(request)

    lane = lanes.open()
    lane._open_engine = lambda _: Moody(1)
    with lane:
        for words in ("memory", "memory", "went away", "memory", "memory", "memory"):
            with pytest.raises(EngineDeadError, match=words):
                lane.run(Unit(0, 0))
        with pytest.raises(LaneGaveUpError, match="memory"):
            lane.run(Unit(0, 0))
    assert len(starts) == 6


def test_groups_get_smaller_with_every_death() -> None:
    suspects = {f"a{number}": 1 for number in range(20)} | {"b": 2, "c": 2}
    assert [len(group) for group in groups(suspects, 3, 64)] == [1, 1, 8, 8, 4]
    assert [len(group) for group in groups({"a": 1, "b": 1}, 2, 64)] == [1, 1]


class Processes:
    """Lanes as processes, one after another, whose engine takes them along."""

    def __init__(self, folder: Path, uri: str) -> None:
        self._images = draw_pictures(folder / "images", 40)
        self._journal = folder / "journal"
        self._uri = uri
        self.dataset = planned(recipe_for(self._images, uri))
        self.words = ""

    def run(self, poison: str, shards: str = "0,1", settings: str = "{}") -> int:
        tests = Path(__file__).parents[1]
        done = subprocess.run(
            [sys.executable, "-m", "support.poisoned_process", self._uri, str(self._images), str(self._journal),
             shards, poison, settings],
            env=os.environ | {"PYTHONPATH": f"{tests}:{tests.parent}"}, capture_output=True, text=True, check=False,
            timeout=120,
        )  # fmt: skip
        self.words = done.stdout + done.stderr
        return done.returncode

    def asked(self) -> Counter[str]:
        return Counter(line.split("/")[0] for line in self._journal.read_text().split())


def test_a_sample_that_kills_the_whole_process_is_found_from_what_is_in_the_bucket(tmp_path: Path) -> None:
    processes = Processes(tmp_path, str(tmp_path / "out"))
    killer = processes.dataset.plan.shard_keys(0)[13]
    for _ in range(4):  # two deaths without a word, one of a group of two, one alone
        assert processes.run(killer) == -signal.SIGKILL, processes.words
        make_old(processes.dataset.store)
    assert processes.run(killer) == QUARANTINED, processes.words
    assert killer in processes.words
    assert list_units(processes.dataset.store) == [Unit(1, 0)]
    assert set(read_log(processes.dataset.store, Unit(0, 0))) == set(processes.dataset.plan.shard_keys(0)) - {killer}
    accept(processes.dataset.store, Unit(0, 0))
    before = processes.asked()[killer]
    assert processes.run(killer) == 0
    assert processes.asked()[killer] == before
    assert verify(processes.dataset, deep=True).rows == 39


def make_old(store: Store) -> None:
    """As if the attempts so far had ended ten minutes ago, by the store's clock."""
    for item in store.list(ATTEMPTS):
        os.utime(Path(store.uri) / item.key, (time.time() - 600,) * 2)


def test_an_attempt_that_may_still_be_alive_condemns_nobody(tmp_path: Path) -> None:
    processes = Processes(tmp_path, str(tmp_path / "out"))
    killer = processes.dataset.plan.shard_keys(0)[13]
    for _ in range(6):  # without waiting: each looks like one that runs elsewhere
        assert processes.run(killer, "0") == -signal.SIGKILL, processes.words
    make_old(processes.dataset.store)
    assert processes.run(killer, "0") == QUARANTINED, processes.words


def test_a_process_killed_once_costs_no_care(tmp_path: Path) -> None:
    processes = Processes(tmp_path, str(tmp_path / "out"))
    killer = processes.dataset.plan.shard_keys(0)[13]
    assert processes.run(killer, "0") == -signal.SIGKILL
    assert processes.run("nobody") == 0
    assert not [key for key in processes.asked() if key.startswith("trifle")]
    assert verify(processes.dataset, deep=True).rows == 40
