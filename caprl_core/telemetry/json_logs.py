"""Log lines as JSON objects that say whose they are: dataset, lane, flow run, shard, attempt, step."""

import contextlib
import datetime as dt
import logging
import re
import sys
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

import orjson

from caprl_core.errors import BadInputError
from caprl_core.recipe.models import LogsExecution
from caprl_core.storage.layout import Unit
from caprl_core.telemetry.redaction import Redaction
from caprl_core.telemetry.shard_context import SHARD, ShardAtWork

OURS = ("caprl_core", "flows", "tasks")
"""Loggers of this program: all their lines from the level asked for on."""
PREFECT = "prefect"
"""Run loggers of flows and tasks lie below it; it does not hand lines to the root logger where Prefect says so."""
LONGEST = 8000
"""Characters of a message or a traceback: a line stays small enough for collectors, which cut at 16 KiB."""


_TASK_RUN = re.compile(r"shard-([0-9]{6,})(?:\.r([0-9]+))?")
"""Prefect's own lines about a task run are written around the shard's work, not in it: they name their task run."""
_REMEMBERED = 1000
"""Units whose attempts are known for such lines: they come within seconds of the work."""


class ShardFilter(logging.Filter):
    """Adds to each record the shard at work where it was written, or whose task run it is about; lets all pass."""

    def __init__(self) -> None:
        super().__init__()
        self._attempts: dict[Unit, int] = {}

    def began(self, unit: Unit, attempt: int) -> None:
        """A try of a unit begins."""
        self._attempts.pop(unit, None)
        self._attempts[unit] = attempt
        if len(self._attempts) > _REMEMBERED:
            self._attempts.pop(next(iter(self._attempts)), None)

    def filter(self, record: logging.LogRecord) -> bool:
        """Set `caprl_shard`."""
        record.caprl_shard = SHARD.get() or self._of_task_run(getattr(record, "task_run_name", None))
        return True

    def _of_task_run(self, name: object) -> ShardAtWork | None:
        match = _TASK_RUN.fullmatch(name) if isinstance(name, str) else None
        if match is None:
            return None
        unit = Unit(int(match[1]), int(match[2] or 0))
        return ShardAtWork(unit, self._attempts.get(unit, 1))


class JsonFormatter(logging.Formatter):
    """A record as one line of JSON; `facts` are the fields every line has."""

    def __init__(self, facts: Mapping[str, Any], redact: Redaction) -> None:
        super().__init__()
        self._facts = facts
        self._redact = redact

    def format(self, record: logging.LogRecord) -> str:
        """Fields in this order: time (UTC), level, those of the run, those of the shard, logger, message, error."""
        time = dt.datetime.fromtimestamp(record.created, dt.UTC)
        line: dict[str, Any] = {"time": time.isoformat(timespec="milliseconds"), "level": record.levelname}
        line |= self._facts
        shard = getattr(record, "caprl_shard", None)
        if shard is not None:
            line |= {"shard": shard.unit.shard, "revision": shard.unit.revision, "attempt": shard.attempt}
            line |= {"attempt_id": shard.attempt_id, "step": shard.step}
        line |= {"logger": record.name, "message": self._clean(record.getMessage())}
        if record.exc_info and record.exc_info[0] is not None:
            line["error"] = self._clean("".join(traceback.format_exception(*record.exc_info)))
        return orjson.dumps(line, default=str).decode()

    def _clean(self, text: str) -> str:
        text = self._redact(text)
        if len(text) > LONGEST:
            text = f"{text[: LONGEST // 2]} … {text[-LONGEST // 2 :]}"
        # Lone surrogates cannot be encoded.
        return text.encode("utf-8", "replace").decode()


class _Lines(logging.StreamHandler[TextIO]):
    """A stream of lines. One that cannot be written is lost: neither the run nor its output must suffer."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Nothing."""


@contextlib.contextmanager
def structured_logs(
    settings: LogsExecution, facts: Mapping[str, Any], secrets: tuple[str, ...] = ()
) -> Iterator[ShardFilter]:
    """While entered, log lines of this program, of Prefect's runs, and others' warnings go out as the settings say.

    `facts` are fields of every line, `secrets` names of environment variables that hold secrets. Lines go on to where
    they went before, too. Gives what wants to be told of each try. Raises `BadInputError` for a file it cannot open.
    """
    shards = ShardFilter()
    if settings.format == "human":
        yield shards
        return
    with contextlib.ExitStack() as ending:
        stream = sys.stderr if settings.file is None else ending.enter_context(_opened(settings.file))
        handler = _Lines(stream)
        handler.setFormatter(JsonFormatter(facts, Redaction(secrets)))
        handler.addFilter(shards)
        level = logging.getLevelNamesMapping()[settings.level]
        for name in (*OURS, f"{PREFECT}.flow_runs", f"{PREFECT}.task_runs"):
            ending.enter_context(_attached(logging.getLogger(name), handler, level))
        others = _Others((*OURS, PREFECT), handler)
        ending.enter_context(_attached(logging.getLogger(), others, None))
        yield shards


class _Others(logging.Handler):
    """Warnings and errors of libraries, without those that the handler sees already."""

    def __init__(self, seen: tuple[str, ...], handler: logging.Handler) -> None:
        super().__init__(logging.WARNING)
        self._seen = seen
        self._handler = handler

    def emit(self, record: logging.LogRecord) -> None:
        """Hand it on."""
        if record.name.split(".", maxsplit=1)[0] not in self._seen:
            self._handler.handle(record)


@contextlib.contextmanager
def _attached(logger: logging.Logger, handler: logging.Handler, level: int | None) -> Iterator[None]:
    """The handler on a logger that lets lines of this level through; None leaves the logger's level alone."""
    before = logger.level
    logger.addHandler(handler)
    if level is not None:
        # Only ever more than before: a user who wants DEBUG elsewhere keeps it.
        logger.setLevel(min(level, before) if before else level)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)


def _opened(file: str) -> TextIO:
    path = Path(file).expanduser()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Line by line, appended: several lanes may write to one file.
        return path.open("a", encoding="utf-8", buffering=1)
    except OSError as error:
        raise BadInputError(f"execution.logs.file: {file}: {error.strerror}") from error
