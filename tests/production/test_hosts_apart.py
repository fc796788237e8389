"""Three hosts with networks of their own. One is cut off in mid-shard for two minutes while the others go on."""

import contextlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest
from hosts import Host, forwarded, missing_rights, reaches
from plant import SHARD_SAMPLES, SHARDS, Plant

from caprl_core.errors import ObjectMissingError
from caprl_core.shards.dataset import open_dataset
from caprl_core.shards.verify import verify
from caprl_core.storage.commit import list_units, read_commit
from caprl_core.storage.layout import ATTEMPTS, Unit, logged_samples, parse_unit
from caprl_core.storage.store import Store
from caprl_core.world.stub_server import StubBehaviour, StubServer
from support.ceph_gateway import missing_programs
from support.postgres_server import postgres_programs
from support.prefect_commands import start_worker
from support.stub_thread import running_stub, seeds

pytestmark = [pytest.mark.production, pytest.mark.timeout(1200)]

CUT_S = 120.0
SLOW, FAST = StubBehaviour(median_s=5.0, sigma=0.1), StubBehaviour(median_s=0.1, sigma=0.1)
"""Three hosts with four requests each ask 2.4 samples/s: 400 last longer than the cut."""


class Network:
    """Hosts with a worker and an engine each; Prefect, the store and the planner are outside."""

    def __init__(self, plant: Plant, parts: contextlib.ExitStack) -> None:
        self.plant = plant
        self.hosts = [parts.enter_context(Host(number)) for number in (1, 2, 3)]
        self.store_port = int(str(urlsplit(plant.ceph.endpoint).port))
        port = int(str(urlsplit(plant.stub.url).port))
        self.engines = [parts.enter_context(host.engine(port, SLOW)) for host in self.hosts]
        for host in self.hosts:
            for inner in (plant.server.port, self.store_port):
                parts.enter_context(forwarded(host.outside, inner))

    def start_worker(self, host: Host) -> psutil.Popen:
        addresses = {
            "PREFECT_API_URL": f"http://{host.outside}:{self.plant.server.port}/api",
            "AWS_ENDPOINT_URL": f"http://{host.outside}:{self.store_port}",
            "CUDA_VISIBLE_DEVICES": host.name,
        }
        return start_worker(
            "gpu-pool",
            "--limit",
            "1",
            environment=self.plant.environment | addresses,
            log=self.plant.logs / f"worker-{host.name}.log",
            within=host.command(),
        )

    def asked(self) -> list[int]:
        return [seed for engine in self.engines for seed in seeds(engine)]

    def hurry(self) -> None:
        for engine in self.engines:
            engine.behaviour = FAST


@pytest.fixture
def network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Network]:
    if missing := missing_programs():
        pytest.skip(f"Ceph is not installed: no {', '.join(missing)} (Debian: radosgw ceph-mon ceph-osd ceph-common)")
    if postgres_programs() is None:
        pytest.skip("PostgreSQL is not installed (Debian: postgresql)")
    if why := missing_rights():
        pytest.skip(why)
    with running_stub() as stub, Plant(tmp_path, stub) as plant, contextlib.ExitStack() as parts:
        for name, value in plant.ceph.environment().items():
            monkeypatch.setenv(name, value)
        yield Network(plant, parts)


def test_a_host_cut_off_for_two_minutes_loses_the_race_and_nothing_is_doubled(network: Network) -> None:
    plant, cut_off = network.plant, network.hosts[1]
    store = Store(plant.recipe.execution.output)
    plant.start_worker("cpu-pool")
    for host in network.hosts:
        network.start_worker(host)
    plant.run("caption-dataset", "-p", "lanes=3")
    plant.until(lambda: plant.committed() > 0 and all(engine.replies > 12 for engine in network.engines))
    stuck = cut_in_mid_shard(network, cut_off, network.engines[1])
    began = time.monotonic()
    assert not reaches(cut_off, plant.server.port)
    at_cut = {"committed": plant.committed(), "asked": len(network.asked())}
    # The server sees no heartbeat for 90 s, the planner hands its shards on, and the others commit them.
    units = {unit for unit, _ in stuck}
    plant.until(lambda: units <= set(list_units(store)), 400)
    taken_over = time.monotonic() - began
    time.sleep(max(0.0, CUT_S - taken_over))
    asked_alone = network.engines[1].replies

    cut_off.plug_in()
    back = time.monotonic() - began
    assert back >= CUT_S
    plant.until(lambda: reaches(cut_off, plant.server.port))
    # Its attempts log what they had, find the commits, and leave nothing behind.
    plant.until(lambda: not units & {unit for unit, _ in logged_seeds(store)}, 180)
    network.hurry()
    plant.until(lambda: plant.over("caption-dataset"), 300)
    assert set(plant.states("caption-dataset").values()) == {"COMPLETED"}, plant.words()
    plant.until(lambda: plant.over("caption-shards") and not plant.watch.now)

    asked = network.asked()
    twice = len(asked) - len(set(asked))
    print(
        f"cut off after {at_cut}; {len(stuck)} attempts in mid-shard ({sorted(stuck.values())} of "
        f"{SHARD_SAMPLES} logged), taken over after {taken_over:.0f} s, back after {back:.0f} s; the host's engine "
        f"had answered {asked_alone} then and {network.engines[1].replies} at the end; {len(asked)} asked in all, "
        f"{twice} twice; lanes: {plant.states('caption-shards')}"
    )
    for unit, attempt in stuck:
        assert read_commit(store, unit).attempt != attempt, "the late attempt won against a commit"
    report = verify(open_dataset(store, plant.recipe), deep=True)
    assert report.sound, report.problems
    assert (report.planned, report.rows) == (SHARDS * SHARD_SAMPLES, SHARDS * SHARD_SAMPLES)
    assert (report.pending, report.unpublished) == (0, 0)
    assert not plant.watch.doubled, "one GPU, two lanes"


def cut_in_mid_shard(network: Network, host: Host, engine: StubServer) -> dict[tuple[Unit, str], int]:
    """Pull the plug while this host's engine is at a shard; returns the attempts, and the samples each has logged.

    A shard whose samples are all logged may be committed by a request that is on its way; the others cannot be.
    """
    store = network.plant.store
    for _ in range(5):
        # Half of a shard is to be asked yet, in two rounds of 5 s: time enough, unless this machine is very busy.
        network.plant.until(lambda: any(samples <= SHARD_SAMPLES // 2 for samples in begun(store, engine).values()))
        host.pull_the_plug()
        if stuck := {one: samples for one, samples in begun(store, engine).items() if samples < SHARD_SAMPLES}:
            return stuck
        host.plug_in()
    raise AssertionError("it was never in mid-shard")


def logged_seeds(store: Store) -> dict[tuple[Unit, str], list[int]]:
    """(unit, attempt) -> seeds of the samples it has logged, of all attempts whose logs are there."""
    found: dict[tuple[Unit, str], list[int]] = {}
    for item in store.list(ATTEMPTS):
        parts = item.key.split("/")
        unit = parse_unit(parts[1])
        if unit is not None and logged_samples(item.key):
            with contextlib.suppress(ObjectMissingError):  # swept meanwhile, as its shard is committed
                lines = store.get(item.key).splitlines()
                found.setdefault((unit, parts[2]), []).extend(json.loads(line)["row"]["seed"] for line in lines)
    return found


def begun(store: Store, engine: StubServer) -> dict[tuple[Unit, str], int]:
    """(unit, attempt) -> samples it has logged, of the attempts whose samples this engine was asked for."""
    asked = set(seeds(engine))
    return {attempt: len(logged) for attempt, logged in logged_seeds(store).items() if asked.issuperset(logged)}
