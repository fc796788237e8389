"""What has changed in a dataset's store since the last look: how a run is followed whose lanes are other processes."""

from collections import Counter
from collections.abc import Collection
from typing import NamedTuple

from caprl_core.errors import ShardQuarantinedError
from caprl_core.shards.dataset import Dataset
from caprl_core.shards.events import ShardEvent, ShardResult
from caprl_core.shards.gate import quarantined_units
from caprl_core.shards.progress import unfinished_units
from caprl_core.storage.commit import list_units, read_commit
from caprl_core.storage.layout import ATTEMPTS, Unit, logged_samples, parse_unit


class News(NamedTuple):
    """One look. `events` has a `sample` for each new one, `begun` every open unit for which an attempt since the
    beginning, or since it was `abandoned`, has written something, those seen first before others; `heard` those an
    attempt has written for since the last look, samples of which there are others too."""

    events: list[ShardEvent]
    heard: set[Unit]
    finished: list[ShardResult]
    quarantined: dict[Unit, ShardQuarantinedError]
    begun: tuple[Unit, ...]


class BucketNews:
    """Follows these units to their end. What earlier runs had logged counts as resumed, not as news; so does what they
    had committed and not published."""

    def __init__(self, dataset: Dataset, units: Collection[Unit]) -> None:
        self._dataset = dataset
        self._open = set(units)
        self._verdicts = {unit: set(keys) for unit, keys in quarantined_units(dataset.store).items()}
        self._committed = self._open & set(list_units(dataset.store))
        self._sizes = {unit: dataset.shard_samples(unit.shard) for unit in self._open}
        earlier = self._attempts()
        self._earlier = set(earlier)
        self._before = self._logged(earlier)
        self._seen = dict(self._before)
        self._begun: dict[Unit, None] = {}
        self._attempted = earlier

    def read(self) -> News:
        """Five listings, and a record for each unit that is now done. After a `StoreError` the next look has it all."""
        done = sorted(self._open - set(unfinished_units(self._dataset)))
        records = {unit: read_commit(self._dataset.store, unit) for unit in done}
        attempts = self._attempts()
        logged = self._logged(attempts)
        verdicts = quarantined_units(self._dataset.store)
        self._open -= records.keys()
        events: list[ShardEvent] = []
        for unit in sorted(self._open):
            events += self._samples(unit, logged.get(unit, 0), 0)
        finished = []
        for unit, record in records.items():
            fresh = unit not in self._committed
            if fresh:
                events += self._samples(unit, record.samples, record.rejected)
            finished.append(ShardResult(unit, record, won=fresh, resumed=self._before.get(unit, 0) if fresh else 0))
        refused = {}
        for unit, keys in verdicts.items():
            if unit in self._open and (new := sorted(set(keys) - self._verdicts.get(unit, set()))):
                refused[unit] = ShardQuarantinedError(f"shard {unit.shard} is in quarantine: {new[-1]} says why")
        self._open -= refused.keys()
        self._begun |= dict.fromkeys(unit for unit, name in attempts if (unit, name) not in self._earlier)
        heard = {key[0] for key, samples in attempts.items() if self._attempted.get(key) != samples}
        self._attempted = attempts
        return News(events, heard, finished, refused, tuple(unit for unit in self._begun if unit in self._open))

    def abandoned(self, units: Collection[Unit]) -> None:
        """Nobody is at work on these any more: they are not begun until an attempt that is not known yet writes."""
        self._earlier |= {key for key in self._attempted if key[0] in units}
        for unit in units:
            self._begun.pop(unit, None)

    def _samples(self, unit: Unit, samples: int, rejected: int) -> list[ShardEvent]:
        seen = self._seen.get(unit, 0)
        self._seen[unit] = max(seen, samples)
        return [ShardEvent(unit, "sample", done, rejected) for done in range(seen + 1, samples + 1)]

    def _attempts(self) -> dict[tuple[Unit, str], int]:
        """Samples in the log of each attempt at an open unit."""
        newest: Counter[tuple[Unit, str]] = Counter()
        for item in self._dataset.store.list(ATTEMPTS):
            parts = item.key.split("/")
            unit = parse_unit(parts[1]) if len(parts) > 3 else None
            if unit is not None and unit in self._open:
                newest[unit, parts[2]] = max(newest[unit, parts[2]], logged_samples(item.key))
        return newest

    def _logged(self, attempts: dict[tuple[Unit, str], int]) -> dict[Unit, int]:
        """Samples in the logs of each open unit, at most as many as it has."""
        found: Counter[Unit] = Counter()
        for (unit, _), samples in attempts.items():
            found[unit] += samples
        return {unit: min(samples, self._sizes[unit]) for unit, samples in found.items()}
