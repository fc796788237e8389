"""Who works which shards: what waits, what each lane holds, and what is given to others. Pure: no store, no clock."""

from collections import Counter
from collections.abc import Collection, Sequence

from caprl_core.shards.slices import slice_size
from caprl_core.storage.layout import Unit

MAX_TRIES = 5
"""Lanes that may end with a shard they had begun: then it is left alone, lest one shard kill lane after lane. A sample
that kills the whole process is found and rejected by the fifth (`caprl_core.shards.suspects`)."""
WORTH_LOADING_S = 120.0
"""Seconds of work a lane that has yet to load its engine must be able to take from another: less would not pay."""


class Allotment:
    """Units go from waiting to a lane, and back if the lane ends before they do.

    Two lanes hold one unit only at the very end, when there is nothing else to do: the second goes on from the log of
    the first, and one commit wins. A lane whose units were taken over may still come to them; it finds them committed,
    or loses the commit.
    """

    def __init__(self, units: Sequence[Unit], *, lanes: int, fill: int, shard_samples: int) -> None:
        self._waiting = list(units)
        self._returned: list[Unit] = []
        self._held: dict[int, list[Unit]] = {}
        self._tries: Counter[Unit] = Counter()
        self._doubled: set[Unit] = set()
        self._loaded: set[int] = set()
        self._lanes = lanes
        self._fill = fill
        self._shard_samples = shard_samples

    @property
    def open(self) -> bool:
        """Whether anything waits or is held."""
        return bool(self._waiting or self._returned) or any(self._held.values())

    def held(self, lane: int) -> list[Unit]:
        """What a lane was given and has not finished."""
        return list(self._held.get(lane, ()))

    def next_shard_s(self, lane: int, rate: float | None) -> float | None:
        """Seconds until a lane should have finished a shard, whichever of those its engine works at once; None before
        a `rate` (samples/s) is measured, and for a lane that holds nothing."""
        at_once = min(len(self._held.get(lane, ())), self._fill)
        return None if rate is None or not at_once else at_once * self._shard_samples / rate

    def give(self, lane: int, rate: float | None, begun: Sequence[Unit] = (), *, loaded: bool = False) -> list[Unit]:
        """More for this lane, which now holds it; empty if it has enough or there is nothing.

        Of what waits, as soon as all it has left fits into its engine at once: what other lanes ended with goes to one
        whose engine is `loaded`, for nobody knows when the others begin. When nothing waits, a lane that has
        nothing takes from others: the later half of what the lane with most to do has not `begun`, if that is worth
        loading an engine or this one is `loaded`; at last, loaded, a unit that another has begun, the oldest first
        (`begun` is in that order), each once: of two lanes that work it one may be far slower, or gone unnoticed.
        """
        mine = self._held.setdefault(lane, [])
        if loaded:
            self._loaded.add(lane)
        if len(mine) > self._fill:
            return []
        if self._waiting or self._returned:
            units = self._next_slice(mine, rate, loaded)
        elif mine:
            return []
        else:
            units = self._taken(rate, begun, loaded) or (self._shared(begun) if loaded else [])
        # Taking from others replaces their lists, and this one too when nobody has anything to take.
        self._held[lane] = [*self._held[lane], *units]
        return units

    def settled(self, units: Collection[Unit]) -> None:
        """These are done, whoever did them, or nobody is to try them again."""
        gone = set(units)
        self._waiting = [unit for unit in self._waiting if unit not in gone]
        self._returned = [unit for unit in self._returned if unit not in gone]
        for lane, held in self._held.items():
            self._held[lane] = [unit for unit in held if unit not in gone]

    def ended(self, lane: int, tried: Collection[Unit]) -> list[Unit]:
        """The lane works no more: what it alone held waits again.

        `tried` are units it may have died of. Returns those that have now had `MAX_TRIES`: they do not wait again.
        """
        left = self._held.pop(lane, [])
        self._tries.update(unit for unit in left if unit in tried)
        elsewhere = {unit for held in self._held.values() for unit in held}
        # From now on one lane holds them again, or none.
        self._doubled.difference_update(left)
        spent = [unit for unit in left if self._tries[unit] >= MAX_TRIES and unit not in elsewhere]
        self._returned += [unit for unit in left if unit not in spent and unit not in elsewhere]
        return spent

    def _next_slice(self, mine: Sequence[Unit], rate: float | None, loaded: bool) -> list[Unit]:
        idle = max(1, self._lanes - sum(bool(held) for held in self._held.values()))
        waiting = [*self._returned, *self._waiting] if loaded else [*self._waiting, *self._returned]
        size = slice_size(
            len(waiting), self._lanes, idle, fill=self._fill, shard_samples=self._shard_samples, rate=rate
        )
        units = waiting[: max(1, size - len(mine))]
        self._waiting = [unit for unit in self._waiting if unit not in units]
        self._returned = [unit for unit in self._returned if unit not in units]
        return units

    def _taken(self, rate: float | None, begun: Sequence[Unit], loaded: bool) -> list[Unit]:
        others = set(begun) | self._doubled
        untouched = {lane: [unit for unit in held if unit not in others] for lane, held in self._held.items()}
        for lane, units in untouched.items():
            if lane in self._loaded and units == self._held[lane]:
                # It is about to begin the first: two lanes must not take it from one another for ever.
                untouched[lane] = units[1:]
        busiest = max(untouched, key=lambda number: len(untouched[number]), default=None)
        if busiest is None:
            return []
        later = untouched[busiest][len(untouched[busiest]) // 2 :]
        if not loaded and (rate is None or len(later) * self._shard_samples / rate < WORTH_LOADING_S):
            return []
        self._held[busiest] = [unit for unit in self._held[busiest] if unit not in later]
        return later

    def _shared(self, begun: Sequence[Unit]) -> list[Unit]:
        held = {unit for units in self._held.values() for unit in units}
        for unit in begun:
            if unit in held and unit not in self._doubled:
                self._doubled.add(unit)
                return [unit]
        return []
