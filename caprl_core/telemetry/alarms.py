"""When the course of a run is worth an alarm: judged from its counts, told once until it is well again."""

from collections import deque
from dataclasses import dataclass
from typing import Any

from caprl_core.recipe.models import AlertsExecution
from caprl_core.shards.tally import RunStart, Snapshot

FAILURE_BUDGET_EXCEEDED = "failure-budget.exceeded"
RATE_BELOW_EXPECTATION = "rate.below-expectation"
LANE_STALLED = "lane.stalled"
SHARD_QUARANTINED = "shard.quarantined"
ENGINE_GIVEN_UP = "engine.given-up"

JUDGED_SAMPLES = 100
"""Samples done in this run before a share of them says something: 1 of the first 3 is no 33 %."""


@dataclass(frozen=True, slots=True)
class Alarm:
    """What to tell: its kind (one of the constants above), in words, and in figures."""

    kind: str
    message: str
    figures: dict[str, Any]


class Alarms:
    """Looks at a run now and then; returns what has just become worth telling."""

    def __init__(self, settings: AlertsExecution, start: RunStart) -> None:
        self._settings = settings
        self._start = start
        self._raised: set[str] = set()
        self._seen: deque[tuple[float, int]] = deque()

    def look(self, now: Snapshot) -> list[Alarm]:
        """Alarms that begin now. One that has ended may begin again."""
        found = [alarm for alarm in (self._budget(now), self._rate(now)) if alarm is not None]
        fresh = [alarm for alarm in found if alarm.kind not in self._raised]
        self._raised = {alarm.kind for alarm in found}
        return fresh

    def _budget(self, now: Snapshot) -> Alarm | None:
        """Samples by those done so far in this run, shards by all of the run: a few failed ones are soon too many."""
        budget = self._settings.failure_budget
        if budget is None:
            return None
        done, rejected = now.done - self._start.done, now.rejected - self._start.rejected
        samples = rejected / done if done >= JUDGED_SAMPLES else 0.0
        shards = now.shards_failed / now.shards if now.shards else 0.0
        if max(samples, shards) <= budget:
            return None
        return Alarm(
            FAILURE_BUDGET_EXCEEDED,
            f"{rejected:,} of {done:,} samples rejected and {now.shards_failed:,} of {now.shards:,} shards failed: "
            f"more than {budget:.1%}",
            {"rejected": rejected, "done": done, "shards_failed": now.shards_failed, "shards": now.shards}
            | {"failure_budget": budget},
        )

    def _rate(self, now: Snapshot) -> Alarm | None:
        """The mean rate over the whole window, which begins with the first sample: engines load for minutes before.

        What is less than a window's work is not judged: at its end a run is slow because little is left.
        """
        least, window = self._settings.samples_per_second_at_least, self._settings.window_s
        if least is None or not now.done - self._start.done:
            return None
        self._seen.append((now.elapsed_s, now.done))
        # The first entry is the newest that is a window old.
        while len(self._seen) > 1 and now.elapsed_s - self._seen[1][0] >= window:
            self._seen.popleft()
        since, before = self._seen[0]
        passed = now.elapsed_s - since
        if passed < window or now.total - now.done < least * window:
            return None
        rate = (now.done - before) / passed
        if rate >= least:
            return None
        return Alarm(
            RATE_BELOW_EXPECTATION,
            f"{rate:.2f} samples/s over {passed:.0f} s, expected at least {least:g}",
            {"samples_per_second": round(rate, 4), "expected": least, "window_s": window},
        )
