"""The shards of a run as the rows of a table that stays small, however many shards there are."""

import logging
from typing import Any

from caprl_core.errors import ShardQuarantinedError
from caprl_core.shards.tally import Snapshot
from tasks.sliding_window import Outcome

TABLE_ROWS = 1000
"""Shards in the table: a table is stored and sent as one value, about 200 bytes a row. Those that failed come first,
then those at work, then those with most rejected samples."""
_ERROR_CHARACTERS = 300


class ShardTable:
    """Takes units as they end, and keeps those that are most worth a look. Used from the flow's thread."""

    def __init__(self, logger: logging.Logger | logging.LoggerAdapter[Any]) -> None:
        self._logger = logger
        self._kept: list[dict[str, Any]] = []
        self._ended = 0

    def add(self, outcome: Outcome, lane: str = "") -> None:
        """A unit has ended. `lane` says who worked it."""
        self._ended += 1
        if outcome.result is not None:
            record, usage = outcome.result.record, outcome.result.record.usage
            row = {
                "shard": str(outcome.unit),
                "state": "committed" if outcome.result.won else "found committed",
                "rows": record.rows,
                "rejected": record.rejected,
                "reasons": _counts(record.reasons),
                "attempts": _counts(record.attempts),
                "resumed": outcome.result.resumed,
                "tokens": usage.completion_tokens,
                "seconds": usage.wall_s,
                "engine_s": usage.engine_s,
                "lane": lane,
            }
            self._logger.info("%s: %d rows, %d rejected", outcome.unit, record.rows, record.rejected)
        else:
            state = "quarantined" if isinstance(outcome.error, ShardQuarantinedError) else "failed"
            row = {"shard": str(outcome.unit), "state": state, "reasons": str(outcome.error)[:_ERROR_CHARACTERS]}
            row["lane"] = lane
            self._logger.error("%s: %s: %s", outcome.unit, state, outcome.error)
        self._kept.append(row)
        if len(self._kept) >= 2 * TABLE_ROWS:
            self._kept = sorted(self._kept, key=_worth)[:TABLE_ROWS]

    def rows(self, now: Snapshot) -> list[dict[str, Any]]:
        """At most `TABLE_ROWS` of them, with those in flight."""
        working = [{"shard": str(unit), "state": "working", "done": done} for unit, done in now.in_flight]
        return sorted([*self._kept, *working], key=_worth)[:TABLE_ROWS]

    def words(self) -> str:
        """How many there are, and how many are shown."""
        return f"{self._ended:,} shards ended in this run; at most {TABLE_ROWS:,} are shown, failed ones first"


def _worth(row: dict[str, Any]) -> tuple[int, int, str]:
    place = {"failed": 0, "quarantined": 0, "working": 1}.get(row["state"], 2)
    return place, -row.get("rejected", 0), row["shard"]


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name}: {count}" for name, count in counts.items())
