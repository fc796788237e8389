"""Where a dataset stands, read from its store alone: done, running, quarantined, pending, rate, ETA and cost."""

import datetime as dt
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from caprl_core.recipe.models import CostExecution
from caprl_core.shards.dataset import Dataset
from caprl_core.shards.gate import quarantined_units
from caprl_core.shards.suspects import has_ended
from caprl_core.storage.commit import CommitRecord, latest_units, list_units, read_commits
from caprl_core.storage.layout import ATTEMPTS, ROLES, SHARDS, Attempt, Unit, logged_samples, parse_unit

RUNNING_WITHIN = dt.timedelta(minutes=2)
"""An attempt whose log grew within this time counts as running, unless it says that it has ended; logs are flushed
every few seconds."""
RATE_COMMITS = 100
"""Newest commits the rate is taken over."""
THREADS = 32
"""Small objects read at once: what each young attempt says about itself."""


class RunningAttempt(NamedTuple):
    """An attempt that has not committed. `logged` counts its samples in the log; `alive` is told by the age of the
    newest, and by what it says about itself."""

    unit: Unit
    attempt: str
    logged: int
    alive: bool


class Progress(NamedTuple):
    """A snapshot. Samples and shards are counts, rate is samples/s, seconds and GPU-hours say so in their names."""

    name: str
    samples: int
    shards: int
    shards_done: int
    rows: int
    rejected: int
    reasons: dict[str, int]
    attempts: dict[str, int]
    revisions: int
    quarantined: tuple[int, ...]
    running: tuple[RunningAttempt, ...]
    pending_samples: int
    logged_samples: int
    rate: float | None
    eta_s: float | None
    prompt_tokens: int
    completion_tokens: int
    gpu_hours: float
    gpu_hours_left: float | None
    cost: float
    cost_left: float | None
    currency: str


def unfinished_units(dataset: Dataset) -> list[Unit]:
    """What a resume has to run, from three listings.

    Shards without a commit, commits not fully published, and commits beside which attempts still lie unswept.
    """
    units = list_units(dataset.store)
    published = {item.key for item in dataset.store.list(SHARDS)}
    attempted = {parse_unit(item.key.split("/")[1]) for item in dataset.store.list(ATTEMPTS)}
    name = dataset.record.name
    half = [
        unit
        for unit in units
        if unit in attempted or any(unit.final_key(name, role) not in published for role in ROLES)
    ]
    done = {unit.shard for unit in units}
    return sorted(half + [Unit(shard, 0) for shard in range(dataset.record.shards) if shard not in done])


def progress(dataset: Dataset, cost: CostExecution, now: dt.datetime | None = None) -> Progress:
    """Read the state of a dataset: three listings, one cached read of the commit records."""
    now = now or dataset.store.now()
    units = list_units(dataset.store)
    records = list(read_commits(dataset.store, units))
    committed, newest = set(units), latest_units(units)
    current = [record for record in records if newest[record.shard] == record.unit]
    running = _running(dataset, committed, now)
    waiting = {unit.shard for unit in quarantined_units(dataset.store) if unit not in committed}
    done = sum(record.samples for record in current)
    logged: Counter[int] = Counter()
    for attempt in running:
        if attempt.unit.revision == 0:
            logged[attempt.unit.shard] += attempt.logged
    # Racing attempts, and one an operator had redone, log the same samples again.
    whole = dataset.record.identity["dataset"]["shard_samples"]
    in_logs = sum(min(count, whole) for count in logged.values())
    pending = dataset.record.samples - done
    rate = _rate(records)
    gpu_hours = sum(record.usage.engine_s for record in records) * cost.gpus / 3600
    left = gpu_hours * pending / done if done else None
    return Progress(
        name=dataset.record.name,
        samples=dataset.record.samples,
        shards=dataset.record.shards,
        shards_done=len(current),
        rows=sum(record.rows for record in current),
        rejected=sum(record.rejected for record in current),
        reasons=_sum(record.reasons for record in current),
        attempts=_sum(record.attempts for record in current),
        revisions=len(records) - len(current),
        quarantined=tuple(sorted(waiting)),
        running=tuple(running),
        pending_samples=pending,
        logged_samples=in_logs,
        rate=rate,
        eta_s=max(0, pending - in_logs) / rate if rate else None,
        prompt_tokens=sum(record.usage.prompt_tokens for record in records),
        completion_tokens=sum(record.usage.completion_tokens for record in records),
        gpu_hours=gpu_hours,
        gpu_hours_left=left,
        cost=gpu_hours * cost.gpu_hour_price,
        cost_left=None if left is None else left * cost.gpu_hour_price,
        currency=cost.currency,
    )


def _running(dataset: Dataset, committed: set[Unit], now: dt.datetime) -> list[RunningAttempt]:
    newest: dict[tuple[Unit, str], tuple[int, dt.datetime]] = {}
    for item in dataset.store.list(ATTEMPTS):
        parts = item.key.split("/")
        unit = parse_unit(parts[1]) if len(parts) > 3 else None
        if unit is None or unit in committed:
            continue
        before = newest.get((unit, parts[2]), (0, item.modified))
        newest[unit, parts[2]] = (max(before[0], logged_samples(item.key)), max(before[1], item.modified))
    young = [Attempt(*key) for key, (_, modified) in newest.items() if now - modified < RUNNING_WITHIN]
    with ThreadPoolExecutor(THREADS) as pool:
        over = pool.map(lambda attempt: has_ended(dataset.store, attempt), young)
        alive = {attempt for attempt, ended in zip(young, over, strict=True) if not ended}
    return [
        RunningAttempt(unit, attempt, logged, Attempt(unit, attempt) in alive)
        for (unit, attempt), (logged, _) in sorted(newest.items())
    ]


def _rate(records: list[CommitRecord]) -> float | None:
    """Samples/s over the newest commits: what they asked (not what they resumed) by the time they took.

    Between two commits no more time counts than the later one's own attempt took: before that nothing ran. Of the
    dataset's first commit all of that counts, for every other the time since the one before it. Revisions ask a few
    samples of a shard only and are left out.
    """
    first = (record for record in records if record.revision == 0)
    ordered = sorted(first, key=lambda record: record.created)[-RATE_COMMITS - 1 :]
    seconds, before = 0.0, None
    if len(ordered) > RATE_COMMITS:
        before = dt.datetime.fromisoformat(ordered.pop(0).created)
    for record in ordered:
        now = dt.datetime.fromisoformat(record.created)
        gap = record.usage.wall_s if before is None else (now - before).total_seconds()
        # Records of hosts whose clocks differed may seem to come before one another.
        seconds += max(0.0, min(gap, record.usage.wall_s))
        before = now
    asked = sum(record.samples - record.usage.resumed for record in ordered)
    return asked / seconds if seconds > 0 and asked > 0 else None


def _sum(counts: Iterable[dict[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for count in counts:
        total.update(count)
    return dict(sorted(total.items(), key=lambda item: (-item[1], item[0])))
