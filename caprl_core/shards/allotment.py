"""Who works which shards: what waits, what each lane holds, and what is given to others. Pure: no store, no clock."""

from collections import Counter
from collections.abc import Collection, Sequence

from caprl_core.shards.slices import slice_size
from caprl_core.storage.layout import Unit

MAX_TRIES = 3
"""Lanes that may end with a shard they had begun: then it is left alone, lest one shard kill lane after lane."""
WORTH_TAKING_S = 120.0
"""Seconds of work a free lane must be able to take from another: less would not pay for loading its engine."""


class Allotment:
    """Units go from waiting to a lane, and back if the lane ends before they do. Two lanes never hold one unit.

    A lane whose units were taken over may still come to them; it finds them committed, or loses the commit.
    """

    def __init__(self, units: Sequence[Unit], *, lanes: int, fill: int, shard_samples: int) -> None:
        self._waiting = list(units)
        self._held: dict[int, list[Unit]] = {}
        self._size: dict[int, int] = {}
        self._tries: Counter[Unit] = Counter()
        self._lanes = lanes
        self._fill = fill
        self._shard_samples = shard_samples

    @property
    def open(self) -> bool:
        """Whether anything waits or is held."""
        return bool(self._waiting) or any(self._held.values())

    def held(self, lane: int) -> list[Unit]:
        """What a lane was given and has not finished."""
        return list(self._held.get(lane, ()))

    def expected_s(self, lane: int, rate: float | None) -> float | None:
        """Seconds a lane's whole slice should take at `rate` samples/s; None before one is measured."""
        return None if rate is None else self._size.get(lane, 0) * self._shard_samples / rate

    def give(self, lane: int, rate: float | None, begun: Collection[Unit] = ()) -> list[Unit]:
        """The next slice, now held by this lane: of what waits, else the later half of what the lane with most to do
        has not `begun`, if that is worth loading an engine; empty if there is none."""
        if self._waiting:
            idle = max(1, self._lanes - sum(bool(held) for held in self._held.values()))
            size = slice_size(
                len(self._waiting), self._lanes, idle, fill=self._fill, shard_samples=self._shard_samples, rate=rate
            )
            units, self._waiting = self._waiting[:size], self._waiting[size:]
        else:
            units = self._taken(rate, begun)
        if units:
            self._held[lane], self._size[lane] = units, len(units)
        return list(units)

    def settled(self, units: Collection[Unit]) -> None:
        """These are done, whoever did them, or nobody is to try them again."""
        gone = set(units)
        self._waiting = [unit for unit in self._waiting if unit not in gone]
        for lane, held in self._held.items():
            self._held[lane] = [unit for unit in held if unit not in gone]

    def ended(self, lane: int, tried: Collection[Unit]) -> list[Unit]:
        """The lane works no more: what it held goes to the front of what waits.

        `tried` are units it may have died of. Returns those that have now had `MAX_TRIES`: they do not wait again.
        """
        left = self._held.pop(lane, [])
        self._tries.update(unit for unit in left if unit in tried)
        spent = [unit for unit in left if self._tries[unit] >= MAX_TRIES]
        self._waiting = [unit for unit in left if unit not in spent] + self._waiting
        return spent

    def _taken(self, rate: float | None, begun: Collection[Unit]) -> list[Unit]:
        if rate is None:
            return []
        untouched = {lane: [unit for unit in held if unit not in begun] for lane, held in self._held.items()}
        lane = max(untouched, key=lambda number: len(untouched[number]), default=None)
        if lane is None:
            return []
        later = untouched[lane][(len(untouched[lane]) + 1) // 2 :]
        if len(later) * self._shard_samples / rate < WORTH_TAKING_S:
            return []
        self._held[lane] = [unit for unit in self._held[lane] if unit not in later]
        return later
