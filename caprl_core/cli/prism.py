"""`caprl prism`: how good captions are, by what a judge can answer from them alone."""

import json
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from caprl_core.cli.become import JsonOption, OutputOption, RecipeArgument, become
from caprl_core.exit_codes import ExitCode

if TYPE_CHECKING:
    from collections.abc import Callable

    from caprl_core.prism.results.typeset import TextTable

app = typer.Typer(help="Evaluate captions by the questions that can be answered from them.", no_args_is_help=True)


@app.command("run")
def run(recipe: RecipeArgument, output: OutputOption = None, as_json: JsonOption = False) -> None:
    """Write captions of the benchmarks' images, judge and score them. The same command resumes, wherever it ended."""
    become("flows.evaluate_captions", _words(recipe, output, as_json))


@app.command("judge")
def judge(
    recipe: RecipeArgument,
    *,
    captions: Annotated[str, typer.Option(help="File of captions (JSON, JSON lines): of anybody.")],
    name: Annotated[
        str | None, typer.Option(help="Whose they are, as tables say it; default: the file's name.")
    ] = None,
    match: Annotated[str, typer.Option(help="How the file names its images: path, name, stem or id.")] = "path",
    output: OutputOption = None,
    as_json: JsonOption = False,
) -> None:
    """Judge the captions of a file on the recipe's benchmarks, whatever captioner the recipe names."""
    words = ["--captions", captions, "--match", match]
    words += ["--captions-name", name] if name is not None else []
    become("flows.evaluate_captions", _words(recipe, output, as_json) + words)


@app.command("report")
def report(
    target: Annotated[str, typer.Argument(help="Recipe file (.yaml), or a folder of results.", metavar="RUN")],
    others: Annotated[list[str] | None, typer.Argument(help="Further folders of results, side by side.")] = None,
    *,
    as_: Annotated[Literal["text", "markdown", "latex"], typer.Option("--as", help="Form of the tables.")] = "text",
    partial: Annotated[bool, typer.Option("--partial", help="Score what is judged though images are pending.")] = False,
    output: OutputOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the tables of one run, or of several side by side; a recipe is scored again from its stored replies."""
    from caprl_core.errors import IncompleteError
    from caprl_core.prism.finish import finish
    from caprl_core.prism.results.run_files import read_run
    from caprl_core.prism.results.tables import run_tables, side_by_side
    from caprl_core.recipe.load import load_prism_recipe
    from caprl_core.recipe.relocate import relocated

    if target.endswith((".yaml", ".yml")):
        try:
            finished = finish(relocated(load_prism_recipe(target), output), partial=partial)
        except IncompleteError as error:
            typer.secho(f"caprl: {error}", fg=typer.colors.RED, err=True)
            raise typer.Exit(ExitCode.INCOMPLETE) from None
        results = [finished.result]
        if not as_json:
            typer.echo(f"{finished.folder}\n", err=True)
    else:
        results = [read_run(target).result]
    results += [read_run(other).result for other in others or ()]
    if as_json:
        typer.echo(json.dumps([result.model_dump(mode="json") for result in results], indent=2))
        return
    tables = run_tables(results[0]) if len(results) == 1 else side_by_side(results)
    typer.echo("\n".join(map(_typesetter(as_), tables)), nl=False)


@app.command("compare")
def compare(
    first: Annotated[str, typer.Argument(help="Folder of results (or of an evaluation: its newest).")],
    second: Annotated[str, typer.Argument(help="The same of the run that is held against it.")],
    *,
    as_: Annotated[Literal["text", "markdown", "latex"], typer.Option("--as", help="Form of the table.")] = "text",
    force: Annotated[bool, typer.Option("--force", help="Compare runs that were not scored alike.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Compare two runs on the same questions: the difference with its interval; questions won, tied and lost."""
    from caprl_core.prism.compare import compare as compared
    from caprl_core.prism.results.comparison_tables import comparison_table, verdict_line

    found = compared(first, second, force=force)
    if as_json:
        typer.echo(json.dumps(found.model_dump(mode="json"), indent=2))
        return
    typer.echo(_typesetter(as_)(comparison_table(found)), nl=False)
    if as_ == "text":
        typer.echo(f"\n{verdict_line(found)}")


def _typesetter(form: Literal["text", "markdown", "latex"]) -> "Callable[[TextTable], str]":
    from caprl_core.prism.results.typeset import as_latex, as_markdown, as_text

    return {"text": as_text, "markdown": as_markdown, "latex": as_latex}[form]


def _words(recipe: str, output: str | None, as_json: bool) -> list[str]:
    words = ["--config", recipe]
    words += ["--output", output] if output is not None else []
    return words + (["--json"] if as_json else [])
