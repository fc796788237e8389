"""A run as Prefect artifacts: while it goes a progress bar, its figures and its shards; at the end a summary, too.

Artifacts are for people. When the server does not take one the run goes on, because the bucket decides what is done.
"""

import json
import logging
import re
import time
from collections.abc import Callable
from typing import Any
from uuid import UUID

from prefect.artifacts import (
    create_link_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import ArtifactUpdate

from caprl_core.cli.quantities import duration
from caprl_core.recipe.models import CostExecution
from caprl_core.shards.tally import RunStart, Snapshot
from caprl_core.telemetry.spending import Spending, Spent
from tasks.in_background import InBackground
from tasks.shard_table import ShardTable
from tasks.sliding_window import Outcome

UPDATE_S = 5.0
"""Seconds between updates of the progress artifact: each is a request to the server."""
FIGURES_S = 30.0
"""Seconds between updates of the figures and of the table, which may have 150 kB. They are changed in place: a run of
days leaves one of each."""


SETTLE_S = 30.0
"""Seconds the end of a run waits for its last artifacts. Prefect asks a server that is away for more than a minute."""


class RunReport:
    """The artifacts of one flow run, published in a thread of their own. Used from the flow's thread."""

    def __init__(
        self,
        flow: str,
        start: RunStart,
        logger: logging.Logger | logging.LoggerAdapter[Any],
        cost: CostExecution | None = None,
    ) -> None:
        self._start = start
        self._logger = logger
        self._key = re.sub(r"[^a-z0-9-]", "-", f"{flow}-{start.name}")
        self._spending = Spending(cost or CostExecution(), start)
        self._shards = ShardTable(logger)
        self._artifacts: dict[str, UUID] = {}
        self._updated = float("-inf")
        self._figured = time.monotonic()
        self._background = InBackground()

    def progress(self, now: Snapshot, *, at_once: bool = False) -> None:
        """Move the progress bar every few seconds, the figures and the table less often."""
        since = time.monotonic()
        if at_once or since - self._updated >= UPDATE_S:
            self._updated = since
            share = 100.0 * now.done / now.total if now.total else 100.0
            text = progress_line(now, self._spending.read(now))
            self._publish("progress", lambda: self._bar(share, text))
        if at_once or since - self._figured >= FIGURES_S:
            self._figured = since
            figures = figures_page(self._start, now, self._spending.read(now))
            rows, words = self._shards.rows(now), self._shards.words()
            self._publish("figures", lambda: self._put("figures", figures))
            self._publish("table", lambda: self._put("shards", rows, words))

    def add(self, outcome: Outcome, lane: str = "") -> None:
        """A unit ended: a line in the log and a row in the table. `lane` says who worked it."""
        if outcome.result is not None:
            self._spending.add(outcome.result)
        self._shards.add(outcome, lane)

    def link(self, write: Callable[[], tuple[str, str]]) -> None:
        """Link to the report page; `write` makes it, and returns its address for a browser and where it is stored."""

        try:
            address, uri = write()
        except Exception as error:
            self._logger.warning("no report page: %s", error)
            return
        text = f"`{uri}`, for those who may read it there"
        self._publish(
            "page",
            lambda: create_link_artifact(address, "report page", key=f"{self._key}-page", description=text),
        )

    def finish(self, summary: dict[str, Any]) -> None:
        """The summary."""
        self._publish(
            "summary", lambda: create_markdown_artifact(_markdown(self._start, summary), key=f"{self._key}-summary")
        )

    def settle(self) -> None:
        """Wait for what is still to be published, half a minute at most."""
        if not self._background.settle(SETTLE_S):
            self._logger.warning("the last artifacts are not published: the server does not answer")

    def _bar(self, share: float, text: str) -> None:
        if (known := self._artifacts.get("progress")) is not None:
            update_progress_artifact(known, share, description=text)
        else:
            key = f"{self._key}-progress"
            self._artifacts["progress"] = create_progress_artifact(share, key=key, description=text)  # type: ignore[assignment]

    def _put(self, what: str, data: str | list[dict[str, Any]], description: str | None = None) -> None:
        """Make the artifact, or change it where it is made already."""
        known, key = self._artifacts.get(what), f"{self._key}-{what}"
        if known is not None:
            # A table is stored as the text of its rows, which only the making of one sees to.
            stored = data if isinstance(data, str) else json.dumps(data)
            update = {"data": stored} | ({} if description is None else {"description": description})
            with get_client(sync_client=True) as client:
                client.update_artifact(known, ArtifactUpdate(**update))
        elif isinstance(data, str):
            self._artifacts[what] = create_markdown_artifact(data, key=key, description=description)  # type: ignore[assignment]
        else:
            self._artifacts[what] = create_table_artifact(data, key=key, description=description)  # type: ignore[assignment]

    def _publish(self, what: str, publish: Callable[[], object]) -> None:
        def try_it() -> None:
            try:
                publish()
            except Exception as error:
                self._logger.warning("no %s artifact: %s", what, error)

        self._background.do(what, try_it)


def progress_line(now: Snapshot, spent: Spent) -> str:
    """What stands beside the bar: samples done and rejected, samples/s, time left, GPU-hours and money."""
    parts = [f"{now.done:,} of {now.total:,} samples", f"{now.rejected:,} rejected", f"{now.rate:.1f}/s"]
    if now.eta_s is not None and now.done < now.total:
        parts.append(f"{duration(now.eta_s)} left")
    parts.append(f"{_hours(spent.gpu_hours)} GPU-h spent" + _to_come(spent.gpu_hours_left, _hours))
    if spent.cost:
        parts.append(f"{_money(spent.cost)} {spent.currency} spent" + _to_come(spent.cost_left, _money))
    return ", ".join(parts)


def figures_page(start: RunStart, now: Snapshot, spent: Spent) -> str:
    """The figures of a run as Markdown. A question mark is what is not known yet."""
    rows = [
        ("", "so far", "to come"),
        ("---", "---:", "---:"),
        ("samples", f"{now.done:,}", f"{max(0, now.total - now.done):,}"),
        ("of them rejected", f"{now.rejected:,}", ""),
        ("shards of this run", f"{now.shards_done:,}", f"{now.shards - now.shards_done - now.shards_failed:,}"),
        ("shards failed", f"{now.shards_failed:,}", ""),
        ("samples/s, last minute", f"{now.rate:.2f}", ""),
        ("time", duration(now.elapsed_s), _known(now.eta_s, duration)),
        ("GPU-hours", _hours(spent.gpu_hours), _known(spent.gpu_hours_left, _hours)),
        (f"cost, {spent.currency}", _money(spent.cost), _known(spent.cost_left, _money)),
    ]
    lines = [f"# {start.name}", "", f"`{start.uri}`", "", *(f"| {' | '.join(row)} |" for row in rows)]
    return "\n".join([*lines, "", "GPU-hours and cost are those of committed shards.", ""])


def _hours(hours: float) -> str:
    return f"{hours:,.1f}" if hours >= 10 else f"{hours:.3f}"


def _money(amount: float) -> str:
    return f"{amount:,.2f}"


def _known(value: float | None, shown: Callable[[float], str]) -> str:
    return "?" if value is None else shown(value)


def _to_come(value: float | None, shown: Callable[[float], str]) -> str:
    return f", {shown(value)} to come" if value else ""


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
