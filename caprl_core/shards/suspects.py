"""Which samples engines have died with, over all attempts at a unit, whatever lane or machine they ran on.

**The rule.** When an engine dies, every sample in it is a suspect. The next attempt asks suspects first, in sessions in
which nobody else is in the engine, and after the engine has answered a trifle, so that a server that is down accuses
nobody. The more deaths a sample has seen, the smaller its company: all of the engine's concurrency C, then, with a
limit of 3, about the square root of C, then none. A sample with which `execution.runner.engine_deaths` engines have
died, once with nothing else inside, is condemned; whoever was merely beside it has been answered by then.

**Deaths without a word.** An engine inside the lane's process takes the process along, and a lost host takes its lanes.
Such an attempt has no `ended` in its state. One of them proves nothing: hosts are lost every day. From the second on,
the samples it could have had in the engine (`reach`, see there) are suspects, asked as above, and each group of them is
named in the attempt's state before it is asked; so a further death without a word points at those named. That makes one
death more than with an engine that dies alone.

**Limits.** An attempt that still runs elsewhere looks like one that died without a word, and so does one that the store
was away for: that costs company, hence time, but condemns nobody while the attempt's newest object is younger than
`ALIVE`. A host killed again and again from outside, each time with the same single sample in the engine, condemns an
innocent: `caprl release --redo` forgets it all. So does a server that several lanes ask at once, if another lane's
sample kills it each time: the company is this lane's only.
"""

import asyncio
import contextlib
import datetime as dt
import logging
import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from caprl_core.errors import ObjectMissingError, StoreError
from caprl_core.storage.layout import ATTEMPT_STATE, Attempt
from caprl_core.storage.store import Store

logger = logging.getLogger(__name__)

ALIVE = dt.timedelta(minutes=2)
"""As in `progress`: an attempt whose newest object is younger may still run. By the store's clock alone."""
UNEXPLAINED = 2
"""Attempts at a unit that ended without a word until its samples are suspected."""


class AttemptState(BaseModel):
    """What an attempt says about itself: written before it asks anything, and again when that changes."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    reach: int = Field(
        description="It asks in the plan's order: only the first `reach` unlogged samples can be inside."
    )
    named: tuple[str, ...] | None = Field(default=None, description="None but these are in the engine; None: any.")
    ended: bool = Field(default=False, description="The attempt failed or was stopped, and could say so.")
    died_with: tuple[str, ...] = Field(default=(), description="Keys that were in the engine when it died.")


@dataclass(frozen=True, slots=True)
class Suspicion:
    """Keys of unlogged samples -> engines that died with them inside. No key is in both."""

    suspects: Mapping[str, int]
    condemned: Mapping[str, int]


class Statement:
    """What one attempt says about itself, durable when a call returns. Calls raise `StoreError`, but for the last."""

    def __init__(self, store: Store, attempt: Attempt, reach: int) -> None:
        self._store = store
        self._attempt = attempt
        self._state = AttemptState(reach=reach)
        self._made = False

    async def make(self) -> None:
        """Before anything is asked."""
        self._made = True
        await asyncio.to_thread(self._store.put, self._attempt.state_key, self._state.model_dump_json().encode())

    async def name(self, keys: tuple[str, ...] | None) -> None:
        """From now on only these go into the engine; None: any."""
        self._state = self._state.model_copy(update={"named": keys})
        await self.make()

    async def end(self, died_with: Sequence[str] = ()) -> None:
        """The last words, once, of an attempt that has said any; they may fail, as the store may be why it ends."""
        if self._state.ended or not self._made:
            return
        self._state = self._state.model_copy(update={"ended": True, "died_with": tuple(died_with)})
        with contextlib.suppress(StoreError):
            await self.make()


def has_ended(store: Store, attempt: Attempt) -> bool:
    """Whether an attempt has said that it failed or was stopped."""
    state = _read_state(store, attempt.state_key)
    return state is not None and state.ended


def read_suspicion(
    store: Store, attempt: Attempt, unlogged: Sequence[str], limit: int, ignored: Collection[str] = ()
) -> Suspicion:
    """What the states of the other attempts at the unit tell; `attempt` has written its own before.

    `unlogged` are keys in the plan's order, `limit` is `engine_deaths`; attempts that `ignored` names do not count, as
    an operator had them redone.
    """
    newest: dict[str, dt.datetime] = {}
    states: list[tuple[str, str]] = []
    for item in store.list(attempt.unit.attempts_prefix):
        name = item.key.split("/")[2]
        newest[name] = max(newest.get(name, item.modified), item.modified)
        if item.key.endswith(f"/{ATTEMPT_STATE}") and name != attempt.id and name not in ignored:
            states.append((name, item.key))
    now = newest.get(attempt.id) or max(newest.values(), default=dt.datetime.min.replace(tzinfo=dt.UTC))
    deaths: Counter[str] = Counter()
    alone: set[str] = set()
    unexplained, reach = 0, 0
    for name, key in states:
        state = _read_state(store, key)
        if state is None:
            continue
        with_it = state.died_with if state.ended else state.named
        if with_it is None:
            unexplained += 1
            reach = max(reach, state.reach)
            continue
        deaths.update(with_it)
        if len(with_it) == 1 and state.named == with_it and (state.ended or now - newest[name] > ALIVE):
            alone.update(with_it)
    if unexplained >= UNEXPLAINED:
        deaths.update(unlogged[:reach])
    seen = {key: deaths[key] for key in unlogged if deaths[key]}
    condemned = {key: count for key, count in seen.items() if count >= limit and key in alone}
    suspects = {key: min(count, limit - 1) for key, count in seen.items() if key not in condemned}
    return Suspicion(suspects, condemned)


def groups(suspects: Mapping[str, int], limit: int, concurrency: int) -> list[list[str]]:
    """Suspects in the groups they are asked in, those with the most deaths first; sizes as in the rule above."""
    found: list[list[str]] = []
    for count in sorted(set(suspects.values()), reverse=True):
        keys = [key for key, deaths in suspects.items() if deaths == count]
        size = max(1, math.ceil(concurrency ** ((limit - 1 - count) / (limit - 1))))
        found += [keys[start : start + size] for start in range(0, len(keys), size)]
    return found


def _read_state(store: Store, key: str) -> AttemptState | None:
    try:
        return AttemptState.model_validate_json(store.get(key))
    except ObjectMissingError:
        return None  # swept meanwhile: the unit is committed, and the commit will be seen
    except ValidationError:
        logger.warning("%s/%s cannot be read; what it tells about dead engines is passed over", store.uri, key)
        return None
