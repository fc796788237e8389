"""`caprl export`: the rows of a finished dataset as JSONL."""

import json
import sys
from typing import Annotated

import typer

from caprl_core.cli.target import TargetArgument, open_target
from caprl_core.exit_codes import ExitCode


def export(
    target: TargetArgument,
    *,
    out: Annotated[str, typer.Option("--out", "-o", help="File to write: a local path or an `s3://` address.")],
    form: Annotated[
        str,
        typer.Option(help="standard (image, caption, provenance), full (every column), minimal (as CapRL-2M), llava."),
    ] = "standard",
    fields: Annotated[
        str | None, typer.Option(help="Columns to take instead, in this order: `image,caption,…`.")
    ] = None,
    files: Annotated[int, typer.Option(min=1, help="Split the rows evenly into this many files, in plan order.")] = 1,
    attempt: Annotated[
        int | None, typer.Option(min=1, help="Only rows of this attempt (retries shift the distribution).")
    ] = None,
    partial: Annotated[
        bool, typer.Option("--partial", help="Export what is committed though samples are pending.")
    ] = False,
    threads: Annotated[int, typer.Option(min=1, help="Shards read at once.")] = 8,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Write one JSONL, or several, in plan order, with a manifest beside it. Ends with 3 while samples are pending."""
    from caprl_core.errors import BadInputError, IncompleteError
    from caprl_core.export.forms import FORMS
    from caprl_core.export.jsonl import export_jsonl
    from caprl_core.shards.dataset import open_dataset

    chosen = next((name for name in FORMS if name == form), None)
    if chosen is None:
        raise BadInputError(f"--form {form}: take one of {', '.join(FORMS)}")
    store, recipe = open_target(target)
    live = sys.stderr.isatty() and not as_json

    def progress(done: int, total: int) -> None:
        if live:
            typer.echo(f"\r{done:,} of {total:,} shards", err=True, nl=done == total)

    try:
        report = export_jsonl(
            open_dataset(store, recipe),
            out,
            form=chosen,
            fields=[name.strip() for name in fields.split(",")] if fields is not None else None,
            files=files,
            attempt=attempt,
            partial=partial,
            storage=recipe.execution.storage if recipe else None,
            scratch=recipe.execution.runner.spool_dir if recipe else None,
            threads=threads,
            progress=progress,
        )
    except IncompleteError as error:
        typer.secho(f"caprl: {error}", fg=typer.colors.RED, err=True)
        raise typer.Exit(ExitCode.INCOMPLETE) from None
    if as_json:
        typer.echo(json.dumps(report._asdict() | {"files": [item._asdict() for item in report.files]}, indent=2))
        return
    for item in report.files:
        typer.echo(f"{item.name}: {item.rows:,} rows, {item.size / 1e6:,.1f} MB, sha256 {item.sha256}")
    pending = f", {report.pending:,} still pending" if report.pending else ""
    typer.echo(f"{report.rows:,} rows; {report.rejected:,} samples were rejected{pending}; {report.manifest}")
