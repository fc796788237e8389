"""A cluster in simulated time: GPUs that fail, are repaired and are not all as fast, under the program's scheduler.

The parent's decisions are not modelled but made by `caprl_core.shards.allotment`, with a look every `POLL_S` seconds as
`flows.lanes_run` has it.
"""

import heapq
import itertools
import math
import random
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from caprl_core.shards.allotment import Allotment
from caprl_core.shards.lane_work import PATIENCE_S
from caprl_core.shards.slices import RATE_COMMITS
from caprl_core.storage.layout import Unit
from flows.lane_signs import LOADING_S, SLOW_FACTOR
from flows.lanes_run import POLL_S


@dataclass(frozen=True)
class Cluster:
    """Seconds and samples. All figures are assumptions, except the flush and the poll, which are the program's."""

    gpus: int
    samples: int = 2_000_000
    rate: float = 5.0  # captions/s of a 3B captioner on one H100: assumed, some 500 tokens each at 2,500 tokens/s
    engine_s: float = 90.0  # weights, compilation and CUDA graphs of vLLM
    pick_up_s: float = 10.0  # a Prefect worker looks for runs every 10 s, plus a process and its imports
    shard_samples: int = 1000
    shards_in_flight: int = 4
    flush_s: float = 3.0
    concurrency: int = 64
    failures_a_day: float = 1.0  # of each GPU
    repair_s: float = 1800.0  # mean, exponential
    detection_s: tuple[float, float] = (30.0, 120.0)
    stragglers: float = 0.02
    patience_s: float = PATIENCE_S  # a lane that has nothing to do waits so long, its engine loaded, for more


@dataclass(frozen=True)
class Outcome:
    """`makespan / ideal`; engine starts and samples asked in vain, over all lanes."""

    makespan: float
    ideal: float
    starts: int
    redone: float

    @property
    def ratio(self) -> float:
        return self.makespan / self.ideal


@dataclass
class _Gpu:
    """`speed` 1 is healthy; `outages` are (from, to) in seconds, in order and without end."""

    speed: float
    outages: Iterator[tuple[float, float]]
    up: bool = True
    lane: int | None = None


@dataclass
class _Lane:
    units: list[Unit]  # that it knows of and has not begun, in order
    gpu: int | None = None
    loaded: bool = False
    heard: float = 0.0  # when a worker took it, or it last finished a shard
    idle_since: float | None = None
    written: list[Unit] = field(default_factory=list)  # what the parent told it last
    unit: Unit | None = None
    begun_at: float = 0.0
    begun_with: float = 0.0  # samples in the logs when it began its present unit


class Simulation:
    """One run from the first slice to the last commit."""

    def __init__(self, cluster: Cluster, seed: int) -> None:
        self._c = cluster
        self._draw = random.Random(f"{seed}/{cluster.gpus}")
        count = math.ceil(cluster.samples / cluster.shard_samples)
        self._sizes = {Unit(n, 0): float(cluster.shard_samples) for n in range(count)}
        self._sizes[Unit(count - 1, 0)] -= count * cluster.shard_samples - cluster.samples
        self._allotment = Allotment(
            list(self._sizes), lanes=cluster.gpus, fill=cluster.shards_in_flight, shard_samples=cluster.shard_samples
        )
        self._outages: list[list[tuple[float, float]]] = [[] for _ in range(cluster.gpus)]
        self._gpus = [_Gpu(self._speed(), self._trouble(n)) for n in range(cluster.gpus)]
        self._lanes: dict[int, _Lane] = {}
        self._queue: deque[int] = deque()
        self._lost: list[int] = []
        self._done: set[Unit] = set()
        self._news: set[Unit] = set()
        self._logged: dict[Unit, float] = defaultdict(float)
        self._begun: dict[Unit, None] = {}
        self._commits: deque[tuple[float, float]] = deque(maxlen=RATE_COMMITS)
        self._numbers = itertools.count(1)
        self._order = itertools.count()
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._now = 0.0
        self._next_look = -1.0
        self._asked = 0.0
        self._starts = 0

    def run(self) -> Outcome:
        for number in range(len(self._gpus)):
            self._plan_outage(number)
        self._look()
        while len(self._done) < len(self._sizes):
            self._now, _, event = heapq.heappop(self._events)
            event()
        for lane in self._lanes.values():
            if lane.unit is not None and lane.gpu is not None:
                self._asked += (self._now - lane.begun_at) * self._speed_of(lane)
        return Outcome(self._now, self._ideal(), self._starts, self._asked - self._c.samples)

    def _at(self, when: float, event: Callable[[], None]) -> None:
        heapq.heappush(self._events, (when, next(self._order), event))

    # --- machines ---

    def _speed(self) -> float:
        return self._draw.choice((1 / 2, 1 / 3)) if self._draw.random() < self._c.stragglers else 1.0

    def _trouble(self, gpu: int) -> Iterator[tuple[float, float]]:
        draw = random.Random(self._draw.random())
        end = 0.0
        while self._c.failures_a_day:
            start = end + draw.expovariate(self._c.failures_a_day / 86400)
            end = start + draw.expovariate(1 / self._c.repair_s)
            self._outages[gpu].append((start, end))
            yield start, end

    def _plan_outage(self, number: int) -> None:
        for start, end in self._gpus[number].outages:
            self._at(start, lambda: self._fail(number))
            self._at(end, lambda: self._repaired(number))
            return

    def _fail(self, number: int) -> None:
        gpu = self._gpus[number]
        gpu.up = False
        lane, gpu.lane = gpu.lane, None
        if lane is not None:
            self._stop(lane, unlogged=True)
            self._at(self._now + self._draw.uniform(*self._c.detection_s), lambda: self._noticed(lane))

    def _noticed(self, lane: int) -> None:
        self._lost.append(lane)
        self._look_soon()

    def _repaired(self, number: int) -> None:
        self._gpus[number].up = True
        self._plan_outage(number)
        self._take_up(number)

    # --- lanes ---

    def _take_up(self, number: int) -> None:
        """A free worker takes the run that has waited longest."""
        gpu = self._gpus[number]
        if not gpu.up or gpu.lane is not None or not self._queue:
            return
        gpu.lane = name = self._queue.popleft()
        lane = self._lanes[name]
        lane.gpu = number
        start = self._draw.uniform(0, 2 * self._c.pick_up_s)
        lane.heard = self._now + start
        self._starts += 1
        self._at(self._now + start + self._c.engine_s, lambda: self._loaded(name))

    def _loaded(self, name: int) -> None:
        lane = self._lanes.get(name)
        if lane is not None and lane.gpu is not None:
            lane.loaded, lane.heard = True, self._now
            self._next_unit(name, lane)

    def _next_unit(self, name: int, lane: _Lane) -> None:
        while lane.units and lane.units[0] in self._done:
            lane.units.pop(0)
        if not lane.units:
            if lane.idle_since is None:
                lane.idle_since = self._now
                self._look_soon()
            self._at(lane.idle_since + self._c.patience_s, lambda: self._leave(name, lane))
            return
        lane.idle_since = None
        unit = lane.units.pop(0)
        lane.begun_at, lane.begun_with, lane.unit = self._now, self._read_log(unit), unit
        self._begun[unit] = None
        seconds = (self._sizes[unit] - lane.begun_with) / self._speed_of(lane)
        self._at(self._now + seconds, lambda: self._finish(name, unit))

    def _leave(self, name: int, lane: _Lane) -> None:
        """It has had nothing to do for all its patience."""
        gpu = lane.gpu
        if self._lanes.get(name) is not lane or gpu is None or lane.idle_since is None:
            return
        if self._now - lane.idle_since < self._c.patience_s:
            return  # it has worked since
        self._stop(name, unlogged=False)
        self._at(self._now, lambda: self._noticed(name))
        self._gpus[gpu].lane = None
        self._take_up(gpu)

    def _hear(self, name: int, units: list[Unit]) -> None:
        """It reads what it shall do now. What its engine has in flight beside the first it does not give back."""
        lane = self._lanes.get(name)
        if lane is None:
            return
        kept = lane.units[: self._c.shards_in_flight - 1] if lane.unit is not None else []
        lane.units = kept + [unit for unit in units if unit not in kept and unit != lane.unit]
        if lane.idle_since is not None and lane.gpu is not None:
            self._next_unit(name, lane)

    def _finish(self, name: int, unit: Unit) -> None:
        lane = self._lanes.get(name)
        if lane is None or lane.gpu is None or lane.unit != unit:
            return  # its GPU failed in the meantime
        samples = self._sizes[unit] - lane.begun_with
        self._asked += samples
        self._logged[unit] = self._sizes[unit]
        lane.unit, lane.heard = None, self._now
        if unit not in self._done:
            self._done.add(unit)
            self._news.add(unit)
            self._commits.append((samples, self._now - lane.begun_at))
            self._look_soon()
        self._next_unit(name, lane)

    def _stop(self, name: int, *, unlogged: bool) -> None:
        """The lane's process is gone; what it asked and did not log was asked in vain."""
        lane = self._lanes[name]
        if lane.unit is not None and lane.gpu is not None:
            worked = (self._now - lane.begun_at) * self._speed_of(lane)
            vain = self._speed_of(lane) * self._lost_s() if unlogged else 0.0
            self._logged[lane.unit] = max(self._logged[lane.unit], lane.begun_with + max(0.0, worked - vain))
            self._asked += worked
        lane.unit, lane.gpu = None, None

    def _lost_s(self) -> float:
        return self._c.flush_s + self._c.concurrency / self._c.rate / 2

    def _read_log(self, unit: Unit) -> float:
        """Samples of a unit in all logs now, those of attempts under way among them."""
        known = self._logged[unit]
        for lane in self._lanes.values():
            if lane.unit == unit and lane.gpu is not None:
                worked = (self._now - lane.begun_at - self._lost_s()) * self._speed_of(lane)
                known = max(known, lane.begun_with + max(0.0, worked))
        return known

    def _speed_of(self, lane: _Lane) -> float:
        assert lane.gpu is not None
        return self._c.rate * self._gpus[lane.gpu].speed

    # --- the parent, as `flows.lanes_run` does it ---

    def _look_soon(self) -> None:
        look = (math.floor(self._now / POLL_S) + 1) * POLL_S
        if look > self._next_look:
            self._next_look = look
            self._at(look, self._look)

    def _look(self) -> None:
        self._allotment.settled(self._news)
        self._news = set()
        for name in self._lost:
            if name in self._lanes:
                del self._lanes[name]
                self._end(name)
        self._lost = []
        for name in [name for name, lane in self._lanes.items() if self._too_slow(name, lane)]:
            gpu = self._lanes[name].gpu
            self._stop(name, unlogged=False)
            del self._lanes[name]
            self._end(name)
            if gpu is not None:
                self._gpus[gpu].lane = None
                self._take_up(gpu)
        # Lanes on a failed GPU count until that is noticed, lanes in the queue as well: `DeployedLanes.free`.
        while len(self._lanes) < self._c.gpus:
            name = next(self._numbers)
            units = self._allotment.give(name, self._rate(), list(self._begun))
            if not units:
                break
            self._lanes[name] = _Lane(list(units), written=list(units))
            self._queue.append(name)
        for name, lane in self._lanes.items():
            if lane.gpu is not None and self._now >= lane.heard:  # its process runs, the engine may still load
                self._allotment.give(name, self._rate(), list(self._begun), loaded=True)
        for name, lane in self._lanes.items():
            held = self._allotment.held(name)
            if held != [unit for unit in lane.written if unit not in self._done]:
                lane.written = held
                self._at(self._now + self._draw.uniform(0, POLL_S), lambda name=name, held=held: self._hear(name, held))  # type: ignore[misc]
        for number in range(len(self._gpus)):
            if not self._queue:
                break
            self._take_up(number)

    def _end(self, name: int) -> None:
        # Machines fail here, never shards: none is given up for having been tried too often.
        self._allotment.ended(name, ())

    def _too_slow(self, name: int, lane: _Lane) -> bool:
        expected = self._allotment.next_shard_s(name, self._rate())
        if expected is None or lane.gpu is None or not lane.loaded:
            return False
        return self._now - lane.heard > SLOW_FACTOR * expected + LOADING_S

    def _rate(self) -> float | None:
        seconds = sum(seconds for _, seconds in self._commits)
        return sum(samples for samples, _ in self._commits) / seconds if seconds else None

    # --- the ideal ---

    def _ideal(self) -> float:
        low, high = 0.0, self._now
        while high - low > 0.01:
            middle = (low + high) / 2
            low, high = (low, middle) if self._capacity(middle) >= self._c.samples else (middle, high)
        return high

    def _capacity(self, until: float) -> float:
        """Samples all GPUs could have done by then."""
        total = 0.0
        for gpu, outages in zip(self._gpus, self._outages, strict=True):
            down = sum(max(0.0, min(end, until) - start) for start, end in outages if start < until)
            total += (until - down) * gpu.speed * self._c.rate
        return total
