"""How a run shows itself: live on a terminal, a plain line every few seconds elsewhere, JSON lines for scripts."""

import sys
import threading
import time
from collections.abc import Callable
from typing import Any, Self

import orjson
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from caprl_core.cli.quantities import duration
from caprl_core.errors import ShardQuarantinedError
from caprl_core.shards.events import ShardEvent, ShardResult
from caprl_core.shards.tally import RunStart, Snapshot, Tally
from caprl_core.storage.layout import Unit

LINE_EVERY_S = 5.0
"""Seconds between progress lines where there is no terminal."""
REDRAWS_PER_S = 4


class RunDisplay:
    """A `Watcher` that shows what it is told, while entered. Messages go to stderr, results and JSON to stdout."""

    stop_grace_s = 25.0
    """Seconds a stopped run may take to flush its logs and close its engine; Kubernetes kills after 30 s by default."""

    def __init__(self, *, as_json: bool, live: bool, resume: str = "") -> None:
        self._json = as_json
        self._resume = resume
        self._console = Console(stderr=True, highlight=False, soft_wrap=not live)
        self._lock = threading.Lock()
        self._tally: Tally | None = None
        self._ended = threading.Event()
        self._ticker = threading.Thread(target=self._tick, name="caprl-display", daemon=True)
        self._planning_shown = 0.0
        self.on_stopping: Callable[[], None] = lambda: None
        """Called when the flow begins to unwind because of a signal."""
        # Last, because it draws at once.
        self._live = (
            Live(
                console=self._console,
                get_renderable=self._render,
                refresh_per_second=REDRAWS_PER_S,
                transient=True,
                redirect_stdout=False,  # results belong to standard output even where the display has a terminal
            )
            if live and not as_json
            else None
        )

    # What a flow calls

    def planning(self, records: int) -> None:
        """Records read for the plan."""
        if time.monotonic() - self._planning_shown >= LINE_EVERY_S:
            self._planning_shown = time.monotonic()
            self._say("planning", f"planning: {records:,} records read", records=records)

    def started(self, start: RunStart) -> None:
        """The run begins."""
        self._tally = Tally(start)
        done = f"{start.done:,} of {start.samples:,} samples done"
        text = f"{start.name} in {start.uri}: {done}, {start.shards:,} shards to work"
        facts = start._asdict()
        del facts["counted"]
        self._say("started", text, **facts)
        if self._live is None and not self._ticker.is_alive():  # a flow of several stages starts several times
            self._ticker.start()

    def event(self, event: ShardEvent) -> None:
        """A step of a shard."""
        if self._tally is not None:
            self._tally.event(event)
        if event.step == "log read" and event.done:
            self._say(
                "resumed",
                f"{_shown(event.unit)}: {event.done:,} samples taken from the logs of earlier attempts",
                unit=str(event.unit),
                samples=event.done,
            )

    def finished(self, result: ShardResult) -> None:
        """A unit is published."""
        if self._tally is not None:
            self._tally.finished(result)
        record = result.record
        why = ", ".join(f"{reason} {count:,}" for reason, count in record.reasons.items())
        self._say(
            "shard",
            f"{_shown(result.unit)}: {record.rows:,} rows, {record.rejected:,} rejected" + (f" ({why})" if why else ""),
            unit=str(result.unit),
            rows=record.rows,
            rejected=record.rejected,
            reasons=record.reasons,
            resumed=result.resumed,
            won=result.won,
        )

    def failed(self, unit: Unit, error: Exception) -> None:
        """A unit is given up for this run."""
        if self._tally is not None:
            self._tally.failed(unit)
        kind = "quarantined" if isinstance(error, ShardQuarantinedError) else "failed"
        text = str(error) if kind == "quarantined" else f"{_shown(unit)}: {type(error).__name__}: {error}"
        self._say(kind, text, style="red", unit=str(unit), error=str(error))

    def stopping(self) -> None:
        """The flow unwinds."""
        self.on_stopping()

    # What the process around the flow calls

    def note(self, text: str) -> None:
        """Something worth knowing."""
        self._say("note", text, note=text)

    def summary(self, summary: dict[str, Any]) -> None:
        """The run is through: what came of it, on standard output."""
        self.close()
        if self._json:
            self._say("summary", "", **summary)
            return
        for line in summary.get("lines", ()):
            print(line)
        if "samples" not in summary:
            print(summary["uri"], flush=True)
            return
        rate = summary["samples_asked"] / summary["seconds"] if summary["seconds"] else 0.0
        print(
            f"{summary['name']}: {summary['samples_done']:,} of {summary['samples']:,} samples done; this run: "
            f"{summary['shards_committed']:,} shards, {summary['rows']:,} rows, {summary['rejected']:,} rejected, "
            f"{summary['samples_resumed']:,} resumed, {summary['samples_asked']:,} asked in "
            f"{duration(summary['seconds'])} ({rate:.1f}/s)"
        )
        print(summary["uri"], flush=True)

    def error(self, text: str) -> None:
        """The run failed."""
        self._say("error", text, style="red", error=text)

    def stopped(self, signal_name: str) -> None:
        """The run was stopped by a signal, cleanly."""
        again = f": {self._resume}" if self._resume else ""
        self._say("stopped", f"stopped by {signal_name}; the same command resumes{again}", signal=signal_name)

    def __enter__(self) -> Self:
        """Begin to draw."""
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop drawing."""
        self.close()

    def close(self) -> None:
        """Stop drawing; idempotent. What is said afterwards is plain text."""
        self._ended.set()
        if self._live is not None:
            self._live.stop()

    def _tick(self) -> None:
        while not self._ended.wait(LINE_EVERY_S):
            if self._tally is not None:
                now = self._tally.snapshot()
                flying = [{"unit": str(unit), "done": done} for unit, done in now.in_flight]
                self._say("progress", _line(now), **(now._asdict() | {"in_flight": flying}))

    def _say(self, event: str, text: str, style: str = "", **facts: object) -> None:
        with self._lock:
            if self._json:
                sys.stdout.buffer.write(orjson.dumps({"event": event, **facts}, option=orjson.OPT_APPEND_NEWLINE))
                sys.stdout.buffer.flush()
            else:
                self._console.print(Text(text, style=style))

    def _render(self) -> Group | Text:
        if self._tally is None:
            return Text("")
        now = self._tally.snapshot()
        top = Table.grid(padding=(0, 1))
        top.add_row(
            ProgressBar(total=max(1, now.total), completed=now.done, width=30), Text(_line(now), overflow="ellipsis")
        )
        flying = ", ".join(f"{_shown(unit)} ({done:,})" for unit, done in now.in_flight)
        return Group(top, Text(f"in flight: {flying}", style="dim", overflow="ellipsis", no_wrap=True))


def _shown(unit: Unit) -> str:
    return f"shard {unit.shard}" + (f" revision {unit.revision}" if unit.revision else "")


def _line(now: Snapshot) -> str:
    left = f", {duration(now.eta_s)} left" if now.eta_s is not None else ""
    failed = f", {now.shards_failed:,} failed" if now.shards_failed else ""
    return (
        f"{now.done:,}/{now.total:,} samples, {now.rejected:,} rejected, {now.rate:.1f} samples/s{left}; "
        f"shards {now.shards_done:,}/{now.shards:,}{failed}, {len(now.in_flight)} in flight"
    )
