"""A run as Prefect artifacts: a progress bar while it goes, a table of its shards and a summary at the end.

Artifacts are for people. When the server does not take one the run goes on, because the bucket decides what is done.
"""

import logging
import re
import time
from typing import Any
from uuid import UUID

from prefect.artifacts import (
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)

from caprl_core.errors import ShardQuarantinedError
from caprl_core.shards.tally import RunStart, Snapshot
from tasks.sliding_window import Outcome

UPDATE_S = 5.0
"""Seconds between updates of the progress artifact: each is a request to the server."""
TABLE_ROWS = 1000
"""Shards in the table; those that failed come first. A table is stored as one value, about 150 bytes a row."""


class RunReport:
    """The artifacts of one flow run. Used from the flow's thread."""

    def __init__(self, flow: str, start: RunStart, logger: logging.Logger | logging.LoggerAdapter[Any]) -> None:
        self._start = start
        self._logger = logger
        self._key = re.sub(r"[^a-z0-9-]", "-", f"{flow}-{start.name}")
        self._rows: list[dict[str, object]] = []
        self._artifact: UUID | None = None
        self._updated = float("-inf")

    def progress(self, now: Snapshot, *, at_once: bool = False) -> None:
        """Move the progress bar, at most every few seconds."""
        if not at_once and time.monotonic() - self._updated < UPDATE_S:
            return
        self._updated = time.monotonic()
        share = 100.0 * now.done / now.total if now.total else 100.0
        text = f"{now.done:,} of {now.total:,} samples, {now.rejected:,} rejected, {now.rate:.1f}/s"
        try:
            if self._artifact is None:
                self._artifact = create_progress_artifact(share, key=f"{self._key}-progress", description=text)  # type: ignore[assignment]
            else:
                update_progress_artifact(self._artifact, share, description=text)
        except Exception as error:
            self._logger.warning("no progress artifact: %s", error)

    def add(self, outcome: Outcome) -> None:
        """A unit ended: a line in the log and a row in the table."""
        if outcome.result is not None:
            record, usage = outcome.result.record, outcome.result.record.usage
            self._rows.append(
                {
                    "shard": str(outcome.unit),
                    "state": "committed" if outcome.result.won else "found committed",
                    "rows": record.rows,
                    "rejected": record.rejected,
                    "reasons": ", ".join(f"{reason} {count}" for reason, count in record.reasons.items()),
                    "resumed": outcome.result.resumed,
                    "tokens": usage.completion_tokens,
                    "engine_s": usage.engine_s,
                }
            )
            self._logger.info("%s: %d rows, %d rejected", outcome.unit, record.rows, record.rejected)
        else:
            state = "quarantined" if isinstance(outcome.error, ShardQuarantinedError) else "failed"
            self._rows.append({"shard": str(outcome.unit), "state": state, "reasons": str(outcome.error)[:300]})
            self._logger.error("%s: %s: %s", outcome.unit, state, outcome.error)

    def finish(self, summary: dict[str, Any]) -> None:
        """The last progress, the table and the summary."""
        ordered = sorted(self._rows, key=lambda row: (row["state"] not in ("failed", "quarantined"), row["shard"]))
        try:
            create_table_artifact(
                ordered[:TABLE_ROWS],
                key=f"{self._key}-shards",
                description=f"{len(ordered):,} shards worked in this run, {min(len(ordered), TABLE_ROWS):,} shown",
            )
            create_markdown_artifact(_markdown(self._start, summary), key=f"{self._key}-summary")
        except Exception as error:
            self._logger.warning("no table or summary artifact: %s", error)


def _markdown(start: RunStart, summary: dict[str, Any]) -> str:
    lines = [f"# {start.name}", "", f"`{start.uri}`", "", "| | |", "|---|---|"]
    for name, value in summary.items():
        if isinstance(value, dict):
            shown = ", ".join(f"{reason} {count}" for reason, count in value.items())
        elif isinstance(value, list):
            shown = ", ".join(map(str, value[:50])) + (" …" if len(value) > 50 else "")
        else:
            shown = str(value)
        lines.append(f"| {name.replace('_', ' ')} | {shown or 'none'} |")
    return "\n".join(lines) + "\n"
