"""`caprl train`: become the process that trains; see where a run stands; write its page."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from caprl_core.cli.become import JsonOption, OutputOption, RecipeArgument, become
from caprl_core.exit_codes import ExitCode

if TYPE_CHECKING:
    from caprl_core.training.standing import Standing

RunArgument = Annotated[
    str, typer.Argument(help="Recipe file (.yaml), or where a run lies: a folder or `s3://` prefix.", metavar="RUN")
]
COLUMNS = {
    "step": "step",
    "reward": "reward",
    "second_reward": "second reader",
    "accuracy": "accuracy",
    "abstained": "abstained",
    "unread": "unread",
    "truncated": "truncated",
    "length_mean": "tokens",
}
"""Of the table of evaluations: those that any of them has a value of."""


def train(recipe: RecipeArgument, output: OutputOption = None, as_json: JsonOption = False) -> None:
    """Train a captioner as its recipe says, from its newest checkpoint on; evaluate, write its page and register it.

    The same command resumes, after whatever ended the one before. `python -m flows.train_captioner` is the same.
    """
    words = ["--config", recipe, *(["--output", output] if output is not None else [])]
    become("flows.train_captioner", words + (["--json"] if as_json else []))


def train_show(run: RunArgument, as_json: JsonOption = False) -> None:
    """Show where a training run stands, and its evaluations.

    Ends with 0 when its captioner is registered, else with 3.
    """
    from caprl_core.training.standing import place_of, standing

    found = standing(place_of(run))
    typer.echo(json.dumps(_facts(found), ensure_ascii=False) if as_json else "\n".join(_lines(found)))
    raise typer.Exit(ExitCode.INCOMPLETE if found.captioner is None else ExitCode.OK)


def train_page(
    run: RunArgument,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="File to write; default: `report.html` in the run's folder.")
    ] = None,
) -> None:
    """Write the page of a training run, whether it has ended or goes on."""
    from caprl_core.errors import BadInputError
    from caprl_core.training.page.training_page import write_training_page
    from caprl_core.training.standing import place_of, records_of

    place = place_of(run)
    if out is None and "://" in place.records:
        raise BadInputError(f"{place.records} is no local folder: say where the page is to be written with --out")
    with records_of(place, captions=True) as folder:
        typer.echo(write_training_page(folder, out))


def _facts(found: "Standing") -> dict[str, Any]:
    captioner = found.captioner
    return found._asdict() | {
        "captioner": None if captioner is None else {"uri": captioner.uri, "step": captioner.record.step}
    }


def _lines(found: "Standing") -> list[str]:
    steps = "?" if found.steps is None else f"{found.steps:,}"
    goes_on = "no checkpoint yet" if found.checkpoint is None else f"newest checkpoint: step {found.checkpoint:,}"
    lines = [f"{found.name or 'not begun'}  {found.uri}", f"step       {found.step:,} of {steps}, {goes_on}"]
    if found.stopped is not None:
        lines.append(f"stopped    {found.stopped}")
    if found.captioner is None:
        lines.append("captioner  not registered yet")
    else:
        lines.append(f"captioner  step {found.captioner.record.step:,}, registered: {found.captioner.uri}")
    return [*lines, "", *_table(found.evaluations)] if found.evaluations else [*lines, "no evaluation yet"]


def _table(evaluations: Sequence[Mapping[str, Any]]) -> list[str]:
    from caprl_core.training.page.run_files import best_evaluation

    shown = [name for name in COLUMNS if any(line.get(name) is not None for line in evaluations)]
    best = best_evaluation(evaluations)
    rows = [[*(COLUMNS[name] for name in shown), ""]]
    rows += [[*(_cell(name, line.get(name)) for name in shown), "best" if line is best else ""] for line in evaluations]
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    return ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _cell(name: str, value: float | None) -> str:
    if value is None:
        return ""
    if name == "step":
        return f"{value:,}"
    return f"{value:.1f}" if name == "length_mean" else f"{value:.3f}"
