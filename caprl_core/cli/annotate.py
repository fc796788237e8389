"""`caprl annotate`, `caprl resume-failed` and `caprl retry-rejected`: become the process that runs the flow."""

from typing import Annotated

import typer

from caprl_core.cli.become import JsonOption, OutputOption, RecipeArgument, become

MaxShardsOption = Annotated[int | None, typer.Option(min=1, help="End after so many shards.")]


def annotate(
    recipe: RecipeArgument,
    *,
    output: OutputOption = None,
    max_shards: MaxShardsOption = None,
    lanes: Annotated[
        int | None, typer.Option(min=0, help="Engines at once, each in a process of its own; 0: one a visible GPU.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Caption a dataset as its recipe says, or what is left of it; plans first where there is no plan.

    The same command resumes, after whatever ended the one before. `python -m flows.caption_dataset` is the same.
    """
    several = ["--lanes", str(lanes)] if lanes is not None else []
    become("flows.caption_dataset", ["--config", recipe, *several, *_common(output, max_shards, as_json)])


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
    become("flows.retry_rejected", ["--config", recipe, *chosen, *_common(output, max_shards, as_json)])


def resume_failed(
    recipe: RecipeArgument,
    *,
    reason: Annotated[
        list[str] | None, typer.Option(help="Only samples rejected for this reason; repeatable. Default: all.")
    ] = None,
    max_revisions: Annotated[int, typer.Option(min=1, help="Times a shard's rejected samples are redone.")] = 3,
    output: OutputOption = None,
    max_shards: MaxShardsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Find from the bucket alone what is missing, quarantined or rejected, and run just that.

    What another run is at work on is left to it; when nothing is left it ends at once.
    """
    from caprl_core.shards.revise import known_reasons

    known_reasons(reason or [])
    chosen = [word for name in reason or [] for word in ("--reason", name)]
    words = ["--config", recipe, *chosen, "--max-revisions", str(max_revisions)]
    become("flows.resume_failed", words + _common(output, max_shards, as_json))


def _common(output: str | None, max_shards: int | None, as_json: bool) -> list[str]:
    words = ["--output", output] if output is not None else []
    words += ["--max-shards", str(max_shards)] if max_shards is not None else []
    return words + (["--json"] if as_json else [])
