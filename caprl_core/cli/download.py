"""`caprl download`: a verified local copy of a dataset."""

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from caprl_core.cli.target import TargetArgument, open_target
from caprl_core.exit_codes import ExitCode

if TYPE_CHECKING:
    from caprl_core.export.download import DownloadProgress

REDRAW_S = 0.2
MOST_SHARDS = 10_000_000
"""More than any dataset has: a mistyped range must not fill the memory."""


def download(
    target: TargetArgument,
    folder: Annotated[Path, typer.Argument(help="Local folder; an earlier download there is taken up.")],
    *,
    roles: Annotated[str, typer.Option(help="What to bring, of: tar, jsonl, ledger.")] = "tar,jsonl,ledger",
    shards: Annotated[str | None, typer.Option(help="Only these shards: `0-9,42`.")] = None,
    threads: Annotated[int, typer.Option(min=1, max=256, help="Shards fetched at once.")] = 8,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Copy a dataset, checking every sha256. The same command again resumes, and skips what is there.

    Ends with 4 when a stored object is not the one that was committed, with 1 when one is missing.
    """
    from caprl_core.export.download import download as run

    store, _ = open_target(target)
    report = run(
        store,
        folder,
        threads=threads,
        roles=[role.strip() for role in roles.split(",")],
        shards=_numbers(shards),
        progress=_Display(live=sys.stderr.isatty() and not as_json),
    )
    if as_json:
        typer.echo(json.dumps(report._asdict() | {"complete": report.complete}, indent=2))
    else:
        typer.echo(
            f"{folder}: {report.fetched:,} files fetched ({report.bytes_fetched / 1e6:,.1f} MB), "
            f"{report.unchanged:,} were there"
        )
        if report.pending:
            typer.echo(f"{report.pending:,} samples of the dataset are not committed yet")
        if report.superseded:
            typer.echo(
                f"{len(report.superseded):,} files of superseded revisions are left in the folder, such as "
                f"{report.superseded[0]}; delete them before reading shards by a pattern"
            )
        for failure in report.failures:
            typer.secho(failure, fg=typer.colors.RED, err=True)
    if report.wrong:
        raise typer.Exit(ExitCode.VERIFICATION_FAILED)
    if report.missing:
        raise typer.Exit(ExitCode.FAILURE)


def _numbers(text: str | None) -> list[int] | None:
    """`0-3,7` -> [0, 1, 2, 3, 7]."""
    from caprl_core.errors import BadInputError

    if text is None:
        return None
    numbers: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not (first.isdecimal() and (last.isdecimal() if dash else True)):
            raise BadInputError(f"--shards {text}: write numbers and ranges like 0-9,42")
        bounds = int(first), int(last or first)
        if bounds[0] > bounds[1] or bounds[1] >= MOST_SHARDS:
            raise BadInputError(f"--shards {text}: {part.strip()} is no range of shard numbers")
        numbers += range(bounds[0], bounds[1] + 1)
    return numbers


class _Display:
    """One line that is drawn over, on terminals only."""

    def __init__(self, *, live: bool) -> None:
        self._live = live
        self._drawn = 0.0

    def __call__(self, now: "DownloadProgress") -> None:
        ended = now.files == now.files_total
        if self._live and (ended or time.monotonic() - self._drawn > REDRAW_S):
            self._drawn = time.monotonic()
            text = (
                f"{now.files:,} of {now.files_total:,} files, {now.bytes / 1e6:,.0f} of {now.bytes_total / 1e6:,.0f} MB"
            )
            typer.echo(f"\r{text}\x1b[K", err=True, nl=ended)
