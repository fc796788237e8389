"""A run that hands its shards to lanes, by a clock of its own: hours of a cluster pass in a second.

The run, its allotment, the news of the bucket and the bucket are real; lanes are what a test makes of them.
"""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from caprl_core.shards.dataset import Dataset
from caprl_core.storage.commit import Usage, commit
from caprl_core.storage.layout import ROLES, Attempt, Unit
from flows import lane_signs, lanes_run
from support.commit_records import commit_record
from support.drawn_dataset import draw_pictures, planned, recipe_for
from tasks.lanes import LaneState
from tasks.sliding_window import Outcome

POLL_S = 5.0
SHARD_SAMPLES = 20


class Host:
    """Places for lanes, and the state of each, to be changed by the test."""

    def __init__(self, lanes: int) -> None:
        self.lanes = lanes
        self.state: dict[int, LaneState] = {}
        self.units: dict[int, str] = {}
        self.work: dict[int, str] = {}
        self.stopped: set[int] = set()

    def free(self) -> int:
        """As a pool has them."""
        return self.lanes - sum(not state.ended and one not in self.stopped for one, state in self.state.items())

    def start(self, number: int, units: str, work: str) -> None:
        """A lane that waits."""
        self.state[number], self.units[number], self.work[number] = LaneState.WAITING, units, work

    def states(self) -> dict[int, LaneState]:
        """All."""
        return dict(self.state)

    def last_words(self, number: int) -> str:
        """Whatever."""
        return f"the end of lane {number}"

    def stop(self, number: int) -> None:
        """Noted."""
        self.stopped.add(number)

    def close(self) -> None:
        """Nothing."""


class Books:
    """What the run notes."""

    def __init__(self) -> None:
        self.done: list[Unit] = []
        self.failed: dict[Unit, str] = {}
        self.stalled: list[tuple[int, str]] = []

    def note(self, outcome: Outcome, expected_to_fail: bool, lane: str = "") -> None:
        """A unit is done or given up."""
        if outcome.result is not None:
            self.done.append(outcome.unit)
        else:
            self.failed[outcome.unit] = str(outcome.error)

    def observe(self, event: Any) -> None:
        """Nothing."""

    def tick(self) -> None:
        """Nothing."""

    def lane_stalled(self, number: int, why: str) -> None:
        """An alert."""
        self.stalled.append((number, why))


class TimeIsUpError(Exception):
    """The test has seen enough."""


class FollowedRun:
    """`happen` is called after each look of the run, with the seconds since its start."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch, *, shards: int, lanes: int) -> None:
        recipe = recipe_for(
            draw_pictures(folder / "images", shards * SHARD_SAMPLES),
            str(folder / "out"),
            dataset__shard_samples=SHARD_SAMPLES,
        )
        self.now = 0.0
        self.dataset: Dataset = planned(recipe)
        self.host, self.books = Host(lanes), Books()
        self.units = [Unit(shard, 0) for shard in range(shards)]
        self.happen: Callable[[float], None] = lambda _: None
        self._attempts: dict[tuple[int, Unit], Attempt] = {}
        self._logged: dict[Attempt, int] = {}
        patch.setattr(lanes_run, "time", self)
        patch.setattr(lane_signs, "time", self)
        patch.setattr(lanes_run, "SHORT_POLL_S", POLL_S)
        patch.setattr(lanes_run, "get_run_logger", lambda: logging.getLogger("followed"))
        self._recipe = recipe

    def monotonic(self) -> float:
        """The clock."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """Time passes, and things happen."""
        self.now += seconds
        self.happen(self.now)

    def follow(self, *units: Unit, until: float = 86_400) -> None:
        """To the end of these units (default: all), or until a time."""
        happen = self.happen

        def bounded(now: float) -> None:
            if now >= until:
                raise TimeIsUpError
            happen(now)

        self.happen = bounded
        following = lanes_run._Following(
            self._recipe,
            self.dataset,
            host=self.host,
            units=units or self.units,
            run=self.books,  # type: ignore[arg-type]
            expected_to_fail=(),
        )
        following.to_the_end()

    def begin_waiting(self) -> list[int]:
        """All that wait run from now on; returns them."""
        begun = [number for number, state in self.host.state.items() if state is LaneState.WAITING]
        self.host.state |= dict.fromkeys(begun, LaneState.RUNNING)
        return begun

    def log(self, lane: int, unit: Unit, samples: int = 1) -> None:
        """A lane logs samples more of a unit, never its last."""
        attempt = self._attempts.setdefault((lane, unit), Attempt.begin(unit))
        before = self._logged.get(attempt, 0)
        after = min(before + samples, SHARD_SAMPLES - 1)
        if after > before:
            self.dataset.store.put(attempt.log_key(before, after), b"{}\n")
            self._logged[attempt] = after

    def finish(self, unit: Unit) -> None:
        """A lane commits and publishes a unit."""
        record = commit_record(unit, samples=SHARD_SAMPLES, usage=Usage(engine_s=20.0, wall_s=20.0))
        for role in ROLES:
            self.dataset.store.put(unit.final_key("drawn", role), b"x")
        commit(self.dataset.store, record)
        self.dataset.store.delete([item.key for item in self.dataset.store.list(unit.attempts_prefix)])
