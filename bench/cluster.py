"""How far the scheduler stays from the ideal when machines fail and some are slow, for 1 to 512 GPUs, and which slice
size suits it: discrete events in simulated time, so the figures do not depend on the machine this runs on.
"""

import math
from collections.abc import Callable
from contextlib import ExitStack
from statistics import mean
from typing import Any
from unittest.mock import patch

from bench.cluster_model import Cluster, Outcome, Simulation
from bench.measuring import Report, options
from caprl_core.shards import allotment, slices

METHOD = """Discrete events: each GPU works one lane at a time; lanes that find no free GPU wait in the pool's order.
A lane waits for a worker's next look (0 to 20 s), loads its engine (90 s), then works its shards in order at its
GPU's rate, and more when it reads (0 to 5 s later) that there is more; after a minute with nothing to do it ends. A
shard somebody committed is passed over, one somebody began is taken up from its logs. A failing GPU
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


def simulate(
    cluster: Cluster,
    seeds: int,
    *,
    slice_s: float | None = None,
    rule: Rule | None = None,
) -> list[Outcome]:
    """One outcome a seed; the program's slices unless others are given."""
    with ExitStack() as changes:
        if slice_s is not None:
            changes.enter_context(patch.object(slices, "SLICE_S", slice_s))
        if rule is not None:
            changes.enter_context(patch.object(allotment, "slice_size", rule))
        return [Simulation(cluster, seed).run() for seed in range(seeds)]


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
    show(report, "64 GPUs, a lane ends with its slice", simulate(cluster(64, patience_s=0.0), seeds), whole=True)
    for slice_s in (150.0, 300.0, 1200.0, 2400.0, 4800.0):
        show(report, f"64 GPUs, slices of {slice_s:.0f} s", simulate(cluster(64), seeds, slice_s=slice_s))
    show(report, "64 GPUs, fair shares at once", simulate(cluster(64), seeds, rule=fair_share))
    for size in (250, 500, 2000):
        show(report, f"64 GPUs, shards of {size}", simulate(cluster(64, shard_samples=size), seeds))
    for rate in (1.0, 2.0, 10.0):
        show(report, f"64 GPUs, {rate:g} captions/s", simulate(cluster(64, rate=rate), seeds))
    report.require("64 GPUs: makespan / ideal", wanted, most=1.05)
    report.finish()


if __name__ == "__main__":
    main()
