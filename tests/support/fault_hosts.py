"""A machine on which shard attempts run, as bad as its seed makes it: clock, store, engine, death and long sleeps."""

import asyncio
import random
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from caprl_core.engines.protocol import Request
from caprl_core.errors import EngineDeadError, ObjectExistsError, StoreError
from caprl_core.shards.events import ShardEvent
from caprl_core.shards.lane_parts import LaneParts
from caprl_core.shards.previous import PreviousRevision
from caprl_core.shards.runner import ShardRunner
from caprl_core.storage import layout
from caprl_core.storage.layout import Unit
from support.echo_engine import caption_of
from support.stepped_loop import pause
from support.watched_bucket import MemoryBacked, WatchedBucket

HOUR_MS = 3_600_000
HOURS_WRONG = 6
STEPS = (
    *("log read", "sample", "log flushed", "all logged", "gated", "packed", "tar put", "jsonl put", "ledger put"),
    *("committed", "tar published", "jsonl published", "ledger published", "swept"),
)


@dataclass
class Played:
    """What a schedule met. `trace` holds every store operation and step, with the loop's seconds."""

    seed: int
    violations: list[str] = field(default_factory=list)
    trace: list[str] = field(default_factory=list)
    met: Counter[str] = field(default_factory=Counter)


class Host:
    """Its attempts share its fate. A healthy one has a right clock and meets nothing."""

    def __init__(
        self, name: str, bucket: WatchedBucket, played: Played, *, store: type["HostStore"], healthy: bool = False
    ) -> None:
        self.name = name
        self.draw = random.Random(f"{played.seed}/{name}")
        self.dead = False
        self.asked: list[str] = []
        self.store = store(bucket, self)
        self._played = played
        self._loop = asyncio.get_running_loop()
        self._steps: Counter[str] = Counter()
        self._operations = 0
        self._attempts = 0
        self._asleep_s = 0.0
        self._wrong_ms = 0 if healthy else self.draw.randrange(-HOURS_WRONG * HOUR_MS, HOURS_WRONG * HOUR_MS)
        self._trouble = 0.0 if healthy else self.draw.choice((0.0, 0.0, 0.02, 0.15))
        # The one operation that decides: it has its own luck, or most schedules would not try it.
        self._create_trouble = 0.0 if healthy else self.draw.choice((0.0, 0.3))
        self._engine_deaths = 0.0 if healthy else self.draw.choice((0.0, 0.0, 0.03))
        self._slow = 1.0 if healthy else self.draw.choice((1.0, 1.0, 5.0, 40.0))
        self._fate = "none" if healthy else self.draw.choice(("none", "death", "death", "sleep"))
        at_step = self.draw.random() < 0.6
        self._fatal_step = (self.draw.choice(STEPS), self.draw.choice((1, 1, 2))) if at_step else None
        self._fatal_operation = None if at_step else self.draw.randrange(1, 60)

    def begin(self, parts: LaneParts, unit: Unit, previous: PreviousRevision) -> ShardRunner:
        """A new attempt, begun by this host's clock."""
        self._attempts += 1
        now_ms = 1_780_000_000_000 + self._wrong_ms + int(self._loop.time() * 1000)
        number = f"{self.name}-{self._attempts}"
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(layout, "time", SimpleNamespace(time_ns=lambda: now_ms * 1_000_000))
            patch.setattr(layout, "secrets", SimpleNamespace(token_hex=lambda _: number))
            return ShardRunner(parts, unit, 0, self.step, previous)

    def step(self, event: ShardEvent) -> None:
        """The runner's observer."""
        self._steps[event.step] += 1
        self._note(f"{event.unit} {event.step}")
        if self._fatal_step == (event.step, self._steps[event.step]):
            self._strike(f"at {event.step}")

    def answer(self, request: Request) -> str:
        """No two hosts answer alike, as vLLM need not; some first answers are empty, which rejects the sample."""
        if self.dead or self.draw.random() < self._engine_deaths:
            raise EngineDeadError("the engine is gone")
        key, attempt, _ = request.request_id.split("/")
        self.asked.append(key)
        if attempt == "1" and self.draw.random() < 0.1:
            return ""
        return f"{caption_of(request)} Seen by {self.name}."

    def before(self, action: str, key: str) -> None:
        """On the way to the store: it may take long, be refused, or arrive after its sender's death."""
        if self.dead:
            raise StoreError(f"{self.name} is dead")
        self._operations += 1
        if self._fatal_operation == self._operations:
            self._strike(f"before {action}")
        asleep, self._asleep_s = self._asleep_s, 0.0
        pause(asleep + self.draw.expovariate(1 / 0.05) * self._slow)
        if self.dead and self.draw.random() < 0.5:
            raise StoreError(f"{self.name} is dead")
        if self._in_trouble(action):
            self._meet(f"refused {action}")
            raise StoreError(f"{key}: refused")

    def after(self, action: str, key: str) -> None:
        """On the way back: the reply may be lost."""
        self._note(f"{action} {key}")
        pause(self.draw.expovariate(1 / 0.05) * self._slow)
        if self.dead:
            raise StoreError(f"{self.name} is dead")
        if self._in_trouble(action):
            self._meet(f"lost reply of {action}")
            if action == "create" and self.draw.random() < 0.7:
                raise ObjectExistsError(f"{key}: exists already")  # so the client's own second try is answered
            raise StoreError(f"{key}: no reply")

    def lost_race(self, key: str) -> None:
        """Another attempt's commit, or its own of which it had heard nothing."""
        self._meet("a commit lost its race")

    def _in_trouble(self, action: str) -> bool:
        return self.draw.random() < (self._create_trouble if action == "create" else self._trouble)

    def _strike(self, where: str) -> None:
        if self._fate == "none":
            return
        self._meet(f"{self._fate} {where}")
        if self._fate == "death":
            self.dead = True
        else:
            self._asleep_s = self.draw.choice((30.0, 600.0, 7200.0))

    def _meet(self, what: str) -> None:
        self._played.met[what] += 1
        self._note(f"*** {what}")

    def _note(self, what: str) -> None:
        self._played.trace.append(f"{self._loop.time():10.3f} {self.name:10} {what}")


class HostStore(MemoryBacked):
    """The common store as one host reaches it: every operation is a step, and others come between."""

    def __init__(self, bucket: WatchedBucket, host: Host) -> None:
        super().__init__(bucket.objects)
        self._bucket = bucket
        self._host = host

    @contextmanager
    def _errors(self, action: str, key: str) -> Iterator[None]:
        self._host.before(action, key)
        with super()._errors(action, key):
            yield
        self._bucket.check(action, key)
        self._host.after(action, key)

    def create(self, key: str, data: bytes) -> None:
        """Counts the races that were lost on the store's own word."""
        try:
            super().create(key, data)
        except ObjectExistsError:
            self._host.lost_race(key)
            raise

    def delete(self, keys: Any) -> None:
        """One by one: a request that deletes many is no transaction."""
        for key in keys:
            super().delete([key])
