"""How far the scheduler stays from the ideal when machines fail and some are slow, for 1 to 512 GPUs, and which slice
size suits it: discrete events in simulated time, so the figures do not depend on the machine this runs on.
"""

import math
from collections.abc import Callable, Collection
from contextlib import ExitStack
from statistics import mean
from typing import Any
from unittest.mock import patch

from bench.cluster_model import Cluster, Outcome, Simulation
from bench.measuring import Report, options
from caprl_core.shards import allotment, slices
from caprl_core.shards.allotment import Allotment
from caprl_core.storage.layout import Unit

METHOD = """Discrete events: each GPU works one lane at a time; lanes that find no free GPU wait in the pool's order.
A lane waits for a worker's next look (0 to 20 s), loads its engine (90 s), then works its shards in order at its
GPU's rate; a shard somebody committed is passed over, one somebody began is taken up from its logs. A failing GPU
(one failure a GPU-day, repair 30 min on average, exponential both) takes its lane with it: what was not logged (a
flush of 3 s and half a request's time) is done again; the parent learns of it 30 to 120 s later. 2 % of the GPUs work
at a half or a third of the rate. Slices, takeovers and the giving up of slow lanes are the program's own code, which
looks every 5 s. Ideal: when all GPUs that are up, at their own speeds, free of every start and with work divided
without rest, would have done it; same failures. Captions/s of a GPU, times of start, repair and detection are
assumed, not measured. Mean of the seeds, and the worst of them."""

Rule = Callable[..., int]


def fair_share(waiting: int, lanes: int, *_: Any, fill: int, **__: Any) -> int:
    """Everything at once: a lane that has nothing takes from those that have most."""
    return min(waiting, max(fill, math.ceil(waiting / lanes)))


class TailTaken(Allotment):
    """What if free lanes also took a lane's last shard not begun, and then shards that others have begun, oldest first:
    they go on from its log, and the first commit wins."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self._doubled: set[Unit] = set()

    def _taken(self, rate: float | None, begun: Collection[Unit]) -> list[Unit]:
        if rate is None:
            return []
        untouched = {lane: [unit for unit in held if unit not in begun] for lane, held in self._held.items()}
        lane = max(untouched, key=lambda number: len(untouched[number]), default=None)
        if lane is not None and (later := untouched[lane][len(untouched[lane]) // 2 :]):
            self._held[lane] = [unit for unit in self._held[lane] if unit not in later]
            return later
        held = {unit for units in self._held.values() for unit in units}
        for unit in begun:  # in the order they were begun
            if unit in held and unit not in self._doubled:
                self._doubled.add(unit)
                return [unit]
        return []


def simulate(
    cluster: Cluster,
    seeds: int,
    *,
    slice_s: float | None = None,
    rule: Rule | None = None,
    rules: type[Allotment] = Allotment,
) -> list[Outcome]:
    """One outcome a seed; the program's slices and takeovers unless others are given."""
    with ExitStack() as changes:
        if slice_s is not None:
            changes.enter_context(patch.object(slices, "SLICE_S", slice_s))
        if rule is not None:
            changes.enter_context(patch.object(allotment, "slice_size", rule))
        return [Simulation(cluster, seed, rules).run() for seed in range(seeds)]


def show(report: Report, name: str, outcomes: list[Outcome], *, whole: bool = False) -> float:
    """Figures of one row; returns the mean of makespan / ideal."""
    ratio = mean(one.ratio for one in outcomes)
    report.figure(f"{name}: makespan / ideal", ratio, "x")
    report.figure(f"{name}: worst seed", max(one.ratio for one in outcomes), "x")
    if whole:
        report.figure(f"{name}: makespan", mean(one.makespan for one in outcomes) / 3600, "h")
        report.figure(f"{name}: ideal", mean(one.ideal for one in outcomes) / 3600, "h")
        report.figure(f"{name}: engine starts", mean(one.starts for one in outcomes), "starts")
        report.figure(f"{name}: asked in vain", mean(one.redone for one in outcomes), "samples")
    return ratio


def main() -> None:
    parser = options(__doc__)
    parser.add_argument(
        "--rate", type=float, default=Cluster(1).rate, help="captions/s of one GPU; default %(default)s"
    )
    parser.add_argument("--engine-s", type=float, default=Cluster(1).engine_s, help="seconds an engine takes to load")
    arguments = parser.parse_args()
    seeds, samples = (2, 200_000) if arguments.quick else (10, 2_000_000)

    def cluster(gpus: int, **others: Any) -> Cluster:
        given = {"samples": samples, "rate": arguments.rate, "engine_s": arguments.engine_s} | others
        return Cluster(gpus, **given)

    report = Report("cluster", METHOD, quick=arguments.quick, packages=("caprl-factory",))
    wanted = 0.0
    for gpus in (1, 8, 64, 512):
        ratio = show(report, f"{gpus} GPUs", simulate(cluster(gpus), seeds), whole=True)
        wanted = ratio if gpus == 64 else wanted
    healthy = {"failures_a_day": 0.0, "stragglers": 0.0}
    show(report, "64 GPUs, none fails or is slow", simulate(cluster(64, **healthy), seeds))
    kept = cluster(64, engine_kept=True)
    show(report, "64 GPUs, engines kept between slices", simulate(kept, seeds))
    show(report, "64 GPUs, tail taken", simulate(cluster(64), seeds, rules=TailTaken))
    for gpus in (1, 8, 64, 512):
        outcomes = simulate(cluster(gpus, engine_kept=True), seeds, rules=TailTaken)
        show(report, f"{gpus} GPUs, kept and tail taken", outcomes, whole=True)
    for slice_s in (150.0, 300.0, 600.0, 1200.0, 2400.0, 4800.0):
        show(report, f"64 GPUs, slices of {slice_s:.0f} s", simulate(cluster(64), seeds, slice_s=slice_s))
        outcomes = simulate(kept, seeds, slice_s=slice_s, rules=TailTaken)
        show(report, f"64 GPUs, {slice_s:.0f} s, kept and tail taken", outcomes)
    show(report, "64 GPUs, fair shares at once", simulate(cluster(64), seeds, rule=fair_share))
    outcomes = simulate(kept, seeds, rule=fair_share, rules=TailTaken)
    show(report, "64 GPUs, fair shares, kept and tail taken", outcomes)
    for size in (250, 500, 2000):
        outcomes = simulate(cluster(64, engine_kept=True, shard_samples=size), seeds, rules=TailTaken)
        show(report, f"64 GPUs, shards of {size}, kept and tail taken", outcomes)
    for rate in (1.0, 2.0, 10.0):
        show(report, f"64 GPUs, {rate:g} captions/s", simulate(cluster(64, rate=rate), seeds))
        outcomes = simulate(cluster(64, rate=rate, engine_kept=True), seeds, rules=TailTaken)
        show(report, f"64 GPUs, {rate:g} captions/s, kept and tail taken", outcomes)
    report.require("64 GPUs: makespan / ideal", wanted, most=1.05)
    report.finish()


if __name__ == "__main__":
    main()
