"""`caprl doctor`: what this machine has and lacks."""

import json
from pathlib import Path
from typing import Annotated

import typer

from caprl_core.exit_codes import ExitCode

COLOURS = {"ok": typer.colors.GREEN, "note": typer.colors.YELLOW, "missing": typer.colors.RED}


def doctor(
    recipe: Annotated[
        Path | None, typer.Argument(help="Recipe whose sources, engine and output are tried too.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Look at Python, GPU, libraries and disk; with a recipe also try its sources, engine and output.

    The output is tried with scratch objects that are removed again. Ends with 1 if something needed is missing.
    """
    from caprl_core.doctor.examination import examine
    from caprl_core.recipe.load import load_recipe

    findings = []
    for finding in examine(load_recipe(recipe) if recipe is not None else None):
        findings.append(finding)
        if not as_json:
            typer.secho(f"{finding.state:8}", fg=COLOURS[finding.state], nl=False)
            typer.echo(f"{finding.name:20}{finding.found}")
            if finding.remedy:
                typer.echo(f"{'':28}-> {finding.remedy}")
    lacking = sum(finding.state == "missing" for finding in findings)
    if as_json:
        typer.echo(json.dumps([finding._asdict() for finding in findings], indent=2))
    else:
        typer.echo(f"{lacking} missing" if lacking else "nothing needed is missing")
    if lacking:
        raise typer.Exit(ExitCode.FAILURE)
