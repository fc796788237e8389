"""Commands that run a flow become the process that runs it."""

import importlib.util
import os
import sys
from typing import Annotated, NoReturn

import typer

RecipeArgument = Annotated[str, typer.Argument(help="Recipe file (.yaml).", metavar="RECIPE")]
OutputOption = Annotated[str | None, typer.Option(help="Folder or `s3://` prefix instead of the recipe's.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, or JSON lines, for scripts.")]


def become(module: str, arguments: list[str]) -> NoReturn:
    """Replace this process, so that signals, the exit code and the terminal are the flow's own."""
    from caprl_core.errors import BadInputError

    for needed in ("prefect", "flows", "tasks"):
        if importlib.util.find_spec(needed) is None:
            raise BadInputError(
                f"the package {needed!r} is not installed beside caprl_core in {sys.prefix}; install caprl-factory "
                "whole (`pip install caprl-factory`, or `make setup` in its repository)"
            )
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, "-m", module, *arguments])  # noqa: S606 - no shell on purpose
