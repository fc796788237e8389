"""How many shards a lane is given at a time, and how they are written in a parameter. Pure: no store, no clock.

The rule. What a lane holds is about ten minutes' work (`SLICE_S`) at the rate measured: that is how long a silent lane
can hold shards back, while it need not be told of more all the time. Before anything is measured it is one engine's
fill, `shards_in_flight`; and it is never more than half of a lane's fair share of what waits, so that slices get
smaller towards the end, but no smaller than an engine's fill. Idle lanes share what waits, though, even if it does not
fill their engines.
What a lost lane costs is less: its logs are in the store, so only the samples in flight are asked again.
"""

import math
import re
from collections.abc import Iterable, Sequence

from caprl_core.errors import BadInputError
from caprl_core.storage.commit import CommitRecord
from caprl_core.storage.layout import Unit

SLICE_S = 600.0
"""Seconds of work in a slice, by the measured rate."""
RATE_COMMITS = 100
"""Newest commits the rate is taken over, as in `caprl status`."""

_PART = re.compile(r"(\d+)(?:-(\d+))?(?:\.r(\d+))?")


def lane_rate(records: Iterable[CommitRecord]) -> float | None:
    """Samples a second of one lane's engine, over the newest commits; None before there is one.

    A commit says how many seconds of engines all its samples took, whichever attempt asked them, so this needs no count
    of the lanes.
    """
    newest = sorted((record for record in records if record.revision == 0), key=lambda record: record.created)
    newest = newest[-RATE_COMMITS:]
    samples = sum(record.samples for record in newest)
    seconds = sum(record.usage.engine_s for record in newest)
    return samples / seconds if seconds > 0 else None


def slice_size(waiting: int, lanes: int, idle: int, *, fill: int, shard_samples: int, rate: float | None) -> int:
    """Shards in the next slice, 1 or more while any wait: see the rule at the top of this module.

    `waiting` counts shards, `lanes` those wanted at once, `idle` those of them without a slice, the one to get this
    included; `fill` is `shards_in_flight`, `rate` samples/s of one lane.
    """
    by_rate = fill if rate is None else round(SLICE_S * rate / shard_samples)
    shrinking = math.ceil(waiting / (2 * lanes))
    fair = math.ceil(waiting / idle)
    return min(fair, max(fill, min(by_rate, shrinking)))


def show_units(units: Sequence[Unit]) -> str:
    """`0-3,7,9.r1`: what `parse_units` reads; the order is kept."""
    parts: list[tuple[int, int, int]] = []
    for shard, revision in units:
        if parts and (parts[-1][1] + 1, parts[-1][2]) == (shard, revision):
            parts[-1] = (parts[-1][0], shard, revision)
        else:
            parts.append((shard, shard, revision))
    return ",".join(
        (f"{first}-{last}" if last > first else str(first)) + (f".r{revision}" if revision else "")
        for first, last, revision in parts
    )


def parse_units(text: str | Sequence[int], shards: int) -> list[Unit]:
    """Units of a slice: a list of shard numbers, or text such as `0-3,7,9.r1`; each once, in their order.

    `shards` is how many the dataset has. Raises `BadInputError` for anything else, and for shards it does not have.
    """
    parts = text.split(",") if isinstance(text, str) else [str(number) for number in text]
    units: dict[Unit, None] = {}
    for part in parts:
        match = _PART.fullmatch(part.strip())
        if match is None:
            raise BadInputError(f"shards: {part.strip()!r} is not a shard or a range; write for example 0-3,7")
        first, last = int(match[1]), int(match[2] or match[1])
        if not first <= last < shards:
            raise BadInputError(f"shards: {part.strip()} is not within 0-{shards - 1}, the shards of this dataset")
        units.update(dict.fromkeys(Unit(shard, int(match[3] or 0)) for shard in range(first, last + 1)))
    return list(units)
