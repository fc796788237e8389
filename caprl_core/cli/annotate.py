"""`caprl annotate` and `caprl retry-rejected`: become the process that runs the flow."""

import importlib.util
import os
import sys
from typing import Annotated, NoReturn

import typer

RecipeArgument = Annotated[str, typer.Argument(help="Recipe file (.yaml).", metavar="RECIPE")]
OutputOption = Annotated[str | None, typer.Option(help="Folder or `s3://` prefix instead of the recipe's.")]
MaxShardsOption = Annotated[int | None, typer.Option(min=1, help="End after so many shards.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON lines for scripts.")]


def annotate(
    recipe: RecipeArgument,
    output: OutputOption = None,
    max_shards: MaxShardsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Caption a dataset as its recipe says, or what is left of it; plans first where there is no plan.

    The same command resumes, after whatever ended the one before. `python -m flows.caption_dataset` is the same.
    """
    _become("flows.caption_dataset", ["--config", recipe, *_common(output, max_shards, as_json)])


def retry_rejected(
    recipe: RecipeArgument,
    reason: Annotated[
        list[str] | None, typer.Option(help="Only samples rejected for this reason; repeatable. Default: all.")
    ] = None,
    output: OutputOption = None,
    max_shards: MaxShardsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Ask rejected samples again, with new seeds, in superseding revisions of their shards. Nothing is overwritten."""
    from caprl_core.shards.revise import known_reasons

    known_reasons(reason or [])
    chosen = [word for name in reason or [] for word in ("--reason", name)]
    _become("flows.retry_rejected", ["--config", recipe, *chosen, *_common(output, max_shards, as_json)])


def _common(output: str | None, max_shards: int | None, as_json: bool) -> list[str]:
    words = ["--output", output] if output is not None else []
    words += ["--max-shards", str(max_shards)] if max_shards is not None else []
    return words + (["--json"] if as_json else [])


def _become(module: str, arguments: list[str]) -> NoReturn:
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
