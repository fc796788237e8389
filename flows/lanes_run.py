"""A run whose shards are worked by lanes elsewhere, processes or flow runs: hands out slices, follows the bucket."""

import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from prefect import get_run_logger

from caprl_core.errors import IncompleteError, StoreError
from caprl_core.recipe.models import CostExecution, StageRecipe
from caprl_core.shards.allotment import MAX_TRIES, Allotment
from caprl_core.shards.bucket_news import BucketNews, News
from caprl_core.shards.dataset import Dataset
from caprl_core.shards.gate import quarantined_units
from caprl_core.shards.lane_work import begin_run, forget_run, tell_lane, work_key
from caprl_core.shards.progress import progress, unfinished_units
from caprl_core.shards.slices import RATE_COMMITS, lane_rate, show_units
from caprl_core.shards.stage import Stage
from caprl_core.storage.commit import list_units, read_commits
from caprl_core.storage.layout import Unit
from caprl_core.storage.store import Store
from caprl_core.telemetry.lane_telemetry import run_logs
from flows.lane_signs import LaneSigns
from flows.shard_run import GIVE_UP_AFTER, RunBooks, flow_run_id
from flows.watching import WATCHER
from flows.whole_dataset import run_start
from tasks.lanes import LaneHost, LaneState
from tasks.plan import plan_dataset
from tasks.sliding_window import Outcome

POLL_S = 5.0
"""Seconds between looks at the bucket: five listings and one request for the lanes' states."""
SHORT_POLL_S = 0.5
"""The same on a folder of this machine, where listings cost nothing."""
AWAY_S = 120.0
"""Seconds longer than a lane waits for the bucket (`storage.outage_s`) that bucket or server may be away until the run
gives up. Lanes go on meanwhile as far as they can."""
LEAVE_S = 60.0
"""Seconds lanes have to see that everything is done and to close their engines, before they are told to."""


def run_dataset_in_lanes(
    flow: str, recipe: StageRecipe, *, stage: Stage, host: Callable[[], LaneHost], max_shards: int | None = None
) -> dict[str, Any]:
    """Have every unit that is not done, at most `max_shards`, worked by lanes; returns what `run_dataset` returns.

    The bucket decides what is done. Shards of lanes that end early, fall silent or are far too slow go to others: one
    commit a shard wins. Raises `ShardQuarantinedError` or `IncompleteError` at the end when a unit did not commit.
    """
    store = Store(recipe.execution.output, recipe.execution.storage)
    dataset, _ = plan_dataset(recipe, store, stage.name, WATCHER.get().planning)
    committed = frozenset(list_units(store))
    quarantined = quarantined_units(store).keys() - committed
    # Left from a run before this one, lanes may still be at work.
    alive = {one.unit for one in progress(dataset, CostExecution()).running if one.alive}
    units = sorted(unfinished_units(dataset), key=lambda unit: (unit in quarantined, unit in alive, unit))[:max_shards]
    start = run_start(recipe, dataset, units, committed)
    run = RunBooks(flow, recipe, start, WATCHER.get(), get_run_logger())
    run.watcher.started(start)
    with run_logs(recipe, dataset.record.name, flow_run_id()):
        lanes = host()
        try:
            following = _Following(recipe, dataset, host=lanes, units=units, run=run, expected_to_fail=quarantined)
            following.to_the_end()
            following.let_them_leave()
        except BaseException:
            run.watcher.stopping()
            raise
        finally:
            lanes.close()
        following.tidy_up()
        return run.conclude()


class _Following:
    def __init__(
        self,
        recipe: StageRecipe,
        dataset: Dataset,
        *,
        host: LaneHost,
        units: Sequence[Unit],
        run: RunBooks,
        expected_to_fail: Collection[Unit],
    ) -> None:
        self._host = host
        self._run = run
        self._expected = expected_to_fail
        self._logger = get_run_logger()
        self._news = BucketNews(dataset, units)
        self._allotment = Allotment(
            units,
            lanes=host.free(),
            fill=recipe.execution.runner.shards_in_flight,
            shard_samples=recipe.dataset.shard_samples,
        )
        self._records = deque(
            (one for one in read_commits(dataset.store, list_units(dataset.store)) if one.revision == 0), RATE_COMMITS
        )
        self._outage_s = recipe.execution.storage.outage_s
        self._poll_s = SHORT_POLL_S if dataset.store.is_local else POLL_S
        self._store = dataset.store
        self._id = begin_run()
        self._numbers = 0
        self._told: dict[int, list[Unit]] = {}
        self._settled: set[Unit] = set()
        self._over: set[int] = set()
        self._away_since: dict[str, float] = {}
        self._last_lost: tuple[int, list[Unit]] = (0, [])
        self._signs = LaneSigns(self._outage_s, GIVE_UP_AFTER + host.free())
        self._begun: tuple[Unit, ...] = ()

    def to_the_end(self) -> None:
        while True:
            states = self._host.states()
            # After the states: what an ended lane has committed is then seen before its units are given to others.
            news = self._read()
            if news is None:
                time.sleep(self._poll_s)
                continue
            self._take(news)
            for number, state in states.items():
                if number not in self._over:
                    self._judge(number, state)
            if not self._allotment.open:
                return
            if self._signs.hopeless:
                self._give_up()
                return
            self._give(states)
            self._tell()
            self._run.tick()
            time.sleep(self._poll_s)

    def let_them_leave(self) -> None:
        """Lanes end by themselves when nothing more comes: their flow runs then end well too."""
        for number, state in self._host.states().items():
            if state in (LaneState.WAITING, LaneState.TAKEN):
                self._host.stop(number)
            elif not state.ended:
                self._dismiss(number)
        deadline = time.monotonic() + LEAVE_S
        while time.monotonic() < deadline and not all(state.ended for state in self._host.states().values()):
            time.sleep(self._poll_s)

    def tidy_up(self) -> None:
        try:
            forget_run(self._store, self._id)
        except StoreError as error:
            self._logger.warning("what lanes were told is left for `caprl sweep`: %s", error)

    def _read(self) -> News | None:
        """None while the bucket is away."""
        try:
            news = self._news.read()
        except StoreError as error:
            self._logger.warning("the bucket cannot be read now: %s", error)
            self._away("bucket", error)
            return None
        if self._away_since.pop("bucket", None) is not None:
            self._signs.bucket_is_back()
        return news

    def _away(self, what: str, error: Exception) -> None:
        """Raise `error` when this has been away for too long."""
        since = self._away_since.setdefault(what, time.monotonic())
        if time.monotonic() - since > self._outage_s + AWAY_S:
            raise error

    def _take(self, news: News) -> None:
        self._begun = news.begun
        for event in news.events:
            self._run.observe(event)
        ended = {result.unit for result in news.finished} | news.quarantined.keys()
        held = {number: self._allotment.held(number) for number in self._told}
        self._signs.news(held, news.heard, {event.unit for event in news.events}, ended)
        for result in news.finished:
            self._run.note(Outcome(result.unit, result, None), False, self._holder(result.unit))
            if result.unit.revision == 0:
                self._records.append(result.record)
        for unit, error in news.quarantined.items():
            self._run.note(Outcome(unit, None, error), True, self._holder(unit))
        settled = [*(result.unit for result in news.finished), *news.quarantined]
        self._settled.update(settled)
        self._allotment.settled(settled)

    def _holder(self, unit: Unit) -> str:
        """The lane that works a unit, the last to get it if two do; empty if nobody knows."""
        return next((str(number) for number in reversed(self._told) if unit in self._allotment.held(number)), "")

    def _judge(self, number: int, state: LaneState) -> None:
        if state.ended:
            self._end(number, state)
        elif state is LaneState.WAITING:
            self._signs.waiting(number)
        elif state is LaneState.TAKEN:
            if self._signs.taken_too_long(number):
                self._stop(number, "taken by a worker and does not begin", counts=False)
        elif state is LaneState.RUNNING:
            expected_s = self._allotment.next_shard_s(number, self._rate())
            if why := self._signs.verdict(number, self._allotment.held(number), self._begun, expected_s):
                self._stop(number, why)

    def _stop(self, number: int, why: str, *, counts: bool = True) -> None:
        self._logger.warning("lane %d is %s: its shards go to others", number, why)
        self._run.lane_stalled(number, why)
        self._host.stop(number)
        self._end(number, LaneState.CRASHED, counts=counts)

    def _end(self, number: int, state: LaneState, *, counts: bool = True) -> None:
        """The lane is over; what it has not finished waits again. Its end `counts` as a sign that no lane can work."""
        self._over.add(number)
        left = self._allotment.held(number)
        if state is not LaneState.DONE:
            # Cut off, it may still be at work somewhere.
            self._dismiss(number)
        if left and state is not LaneState.DONE:
            self._signs.lost(number, counts=counts)
            self._last_lost = (number, left)
            self._logger.warning(
                "lane %d %s with %s unfinished, which others take over. %s",
                number,
                state.value,
                show_units(left),
                self._host.last_words(number),
            )
        self._signs.over(number)
        # It may have died of what it had begun. One that left of itself was just not told in time.
        tried = [unit for unit in left if unit in self._begun and state is not LaneState.DONE]
        for unit in self._allotment.ended(number, tried):
            error = IncompleteError(f"{MAX_TRIES} lanes ended with it; the last, {number}: {state.value}")
            self._run.note(Outcome(unit, None, error), unit in self._expected, str(number))
        # For the next lane it is not begun: that one may have to wait for its GPU, and to load.
        elsewhere = {unit for other in self._told for unit in self._allotment.held(other)}
        self._news.abandoned([unit for unit in left if unit not in elsewhere])
        self._begun = tuple(unit for unit in self._begun if unit not in left or unit in elsewhere)

    def _give_up(self) -> None:
        """Whatever ends lane after lane, it is not a shard."""
        number, left = self._last_lost
        words = self._host.last_words(number)
        why = f"{self._signs.fruitless} lanes in a row ended without a sample; the last, {number}: {words}"
        for unit in left:
            self._run.note(Outcome(unit, None, IncompleteError(why)), unit in self._expected, str(number))

    def _give(self, states: Mapping[int, LaneState]) -> None:
        """New lanes as long as some may be started, then more for those whose engines have room."""
        refused = False
        for _ in range(0 if self._signs.resting else self._host.free()):
            number = self._numbers + 1
            units = self._allotment.give(number, self._rate(), self._begun)
            if not units:
                break
            key = work_key(self._id, number)
            self._numbers = number
            try:
                tell_lane(self._store, key, units, more=True)
                self._host.start(number, show_units(units), key)
            except Exception as error:
                # A server that is away comes back; the slice waits until then.
                self._logger.warning("no lane could be started now: %s", error)
                self._allotment.ended(number, ())
                # Only the reply may have been lost, and the lane come: it is to find nothing to do.
                self._dismiss(number)
                self._away("server", error)
                refused = True
                break
            self._told[number] = units
            self._logger.info("lane %d: shards %s", number, show_units(units))
        if not refused:
            self._away_since.pop("server", None)
        for number, state in states.items():
            if state is LaneState.RUNNING and number not in self._over:
                units = self._allotment.give(number, self._rate(), self._begun, loaded=True)
                if units:
                    self._logger.info("lane %d: more shards, %s", number, show_units(units))

    def _tell(self) -> None:
        """Write down what has changed for a lane, what others took from it too."""
        for number, told in self._told.items():
            held = self._allotment.held(number)
            if number in self._over or held == [unit for unit in told if unit not in self._settled]:
                continue
            try:
                tell_lane(self._store, work_key(self._id, number), held, more=True)
            except StoreError as error:
                self._logger.warning("lane %d cannot be told now what it shall do: %s", number, error)
                self._away("bucket", error)
                return
            self._told[number] = held

    def _dismiss(self, number: int) -> None:
        """Nothing more for this lane; it ends when what it has begun is done."""
        try:
            tell_lane(self._store, work_key(self._id, number), [], more=False)
        except StoreError as error:
            self._logger.warning("lane %d cannot be told to leave, it will of itself: %s", number, error)

    def _rate(self) -> float | None:
        return lane_rate(self._records)
