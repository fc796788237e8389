"""What a lane shall work, said in one object of the store, so that an engine stays loaded while there is work.

The run that hands out slices writes it, the lane reads it. Advisory like everything but commits: a lane whose object is
lost or out of date ends early or works in vain, and nothing is lost or doubled.
"""

import json
import re
import secrets
import time
from collections.abc import Callable, Sequence

from caprl_core.errors import BadInputError, ObjectMissingError, StoreError
from caprl_core.shards.slices import parse_units, show_units
from caprl_core.storage.layout import LANES, Unit
from caprl_core.storage.store import Store

POLL_S = 5.0
"""Seconds between looks: one small request."""
SHORT_POLL_S = 0.5
"""The same on a folder of this machine."""
PATIENCE_S = 60.0
"""Seconds a lane that has nothing to do keeps its engine: several looks of the run that hands out, and less than
loading an engine again would cost."""

IMPATIENT = {"timeout_s": 5.0, "retries": 1, "retry_timeout_s": 5.0}
"""A look must not hold up the thread that hears SIGTERM; the next one comes soon."""

_KEY = re.compile(rf"{LANES}/[0-9]{{13}}-[0-9a-f]{{16}}/[0-9]{{6,}}\.json")


def begin_run() -> str:
    """A name for a run that hands out work, unlike any other's."""
    return f"{time.time_ns() // 1_000_000:013d}-{secrets.token_hex(8)}"


def work_key(run: str, lane: int) -> str:
    """Where lane `lane` of a run looks."""
    return f"{LANES}/{run}/{lane:06d}.json"


def tell_lane(store: Store, key: str, units: Sequence[Unit], *, more: bool) -> None:
    """Say what this lane shall have done when it ends; without `more`, nothing will be added. Raises `StoreError`."""
    store.put(key, json.dumps({"shards": show_units(units), "more": more}).encode())


def forget_run(store: Store, run: str) -> None:
    """Delete all that was said in a run. Raises `StoreError`."""
    keys = [item.key for item in store.list(f"{LANES}/{run}")]
    if keys:
        store.delete(keys)


class LaneWork:
    """The lane's side: hands out units one after another, and looks every few seconds what they are now.

    Used from one thread. `shards` is how many the dataset has; `units` are known from the start. Without a `key`
    nothing is ever added. Raises `BadInputError` for a key that no run wrote.
    """

    def __init__(
        self,
        store: Store,
        key: str | None,
        units: Sequence[Unit],
        *,
        shards: int,
        tell: Callable[[str], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if key is not None and not _KEY.fullmatch(key):
            raise BadInputError(f"work: {key!r} is not the name of a lane's work, such as {work_key(begin_run(), 1)}")
        self._store = store if store.is_local else Store(store.uri, store.settings.model_copy(update=IMPATIENT))
        self._key = key
        self._units = list(units)
        self._taken: set[Unit] = set()
        self._shards = shards
        self._tell = tell
        self._clock = clock
        self._poll_s = SHORT_POLL_S if store.is_local else POLL_S
        self._looked = float("-inf")
        self._busy_at = clock()
        self._more = key is not None

    @property
    def open(self) -> bool:
        """Whether `take` may still return a unit, now or later."""
        return bool(self._units) or self._more

    def take(self, busy: bool) -> Unit | None:
        """The next unit, or None if there is none now. `busy`: the lane works others, so its engine is of use."""
        now = self._clock()
        if busy:
            self._busy_at = now
        if self._key is not None and self._more and now - self._looked >= self._poll_s:
            self._look(self._key)
            # After the look, which may have waited for a store that was away.
            self._looked = now = self._clock()
        if self._units:
            self._busy_at = now
            unit = self._units.pop(0)
            self._taken.add(unit)
            return unit
        if now - self._busy_at > PATIENCE_S:
            self._more = False
        return None

    def close(self) -> None:
        """Hand out nothing more."""
        self._units, self._more = [], False

    def _look(self, key: str) -> None:
        try:
            said = json.loads(self._store.get(key))
            text, more = said["shards"], said["more"]
            units = parse_units(text, self._shards) if text else []
        except ObjectMissingError:
            self._more = False  # the run has ended and tidied up
        except StoreError as error:
            self._tell(f"what else there is to do cannot be read now: {error}")
        except (ValueError, KeyError, TypeError, BadInputError) as error:
            self._tell(f"{self._store.uri}/{key} cannot be understood, so nothing is added: {error}")
            self._more = False
        else:
            # A unit is handed out once; one that was taken from this lane before it came to it is gone from here.
            self._units = [unit for unit in units if unit not in self._taken]
            self._more = bool(more)
