"""`caprl verify`: the proof from the store alone that nothing is lost, doubled or changed."""

import json
import sys
from typing import Annotated

import typer

from caprl_core.cli.target import TargetArgument, open_target
from caprl_core.exit_codes import ExitCode

PROBLEMS_SHOWN = 20


def verify(
    target: TargetArgument,
    deep: Annotated[bool, typer.Option("--deep", help="Also read and hash every byte of every tar.")] = False,
    threads: Annotated[int, typer.Option(min=1, max=64, help="Shards checked at once.")] = 8,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Check that every planned sample is a row, a ledger line with a reason, or pending, and every object is whole.

    Ends with 0 when all is well and done, with 3 when all is well but samples are pending, with 4 when something is
    wrong.
    """
    from caprl_core.shards.dataset import open_dataset
    from caprl_core.shards.verify import verify as check

    store, recipe = open_target(target)
    dataset = open_dataset(store, recipe)
    live = sys.stderr.isatty() and not as_json

    def progress(done: int) -> None:
        if live:
            typer.echo(f"\r{done:,} of {dataset.record.shards:,} shards", err=True, nl=done == dataset.record.shards)

    report = check(dataset, deep=deep, threads=threads, progress=progress)
    if as_json:
        typer.echo(json.dumps(report._asdict() | {"sound": report.sound, "uri": store.uri}, indent=2))
    else:
        typer.echo(
            f"{store.uri}: {report.planned:,} planned = {report.rows:,} rows + {report.rejected:,} rejected + "
            f"{report.pending:,} pending"
        )
        typer.echo(
            f"{report.shards_committed:,} of {report.shards:,} shards, {report.revisions:,} superseded revisions, "
            f"{report.unpublished:,} not fully published; {report.bytes_checked / 1e6:,.1f} MB read and hashed"
        )
        for problem in report.problems[:PROBLEMS_SHOWN]:
            typer.secho(problem, fg=typer.colors.RED, err=True)
        if report.problem_count > PROBLEMS_SHOWN:
            typer.secho(f"and {report.problem_count - PROBLEMS_SHOWN:,} more problems", fg=typer.colors.RED, err=True)
        if report.sound:
            typer.echo("sound" if not report.pending else "sound, and incomplete")
    if not report.sound:
        raise typer.Exit(ExitCode.VERIFICATION_FAILED)
    if report.pending or report.unpublished:
        raise typer.Exit(ExitCode.INCOMPLETE)
