"""`caprl qa`: curate verified questions, stage by stage or whole; change thresholds without asking a model again."""

import json
import sys
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from caprl_core.cli.become import JsonOption, OutputOption, RecipeArgument, become

if TYPE_CHECKING:
    from caprl_core.qa.finish import Finished
    from caprl_core.recipe.qa import FilterRecipe, QaRecipe

app = typer.Typer(help="Curate questions that need the image.", no_args_is_help=True)

SPLITS: tuple[Literal["train", "held_out"], ...] = ("train", "held_out")

PartialOption = Annotated[bool, typer.Option("--partial", help="Filter what is answered though images are pending.")]


def _stages(recipe: str, output: str | None, as_json: bool, stages: tuple[str, ...]) -> None:
    words = ["--config", recipe]
    words += ["--output", output] if output is not None else []
    words += [word for stage in stages for word in ("--stage", stage)]
    become("flows.curate_qa", words + (["--json"] if as_json else []))


@app.command("run")
def run(recipe: RecipeArgument, output: OutputOption = None, as_json: JsonOption = False) -> None:
    """All stages: generate, extract, answer, filter. The same command resumes, in whichever stage it ended."""
    _stages(recipe, output, as_json, ())


@app.command("generate")
def generate(recipe: RecipeArgument, output: OutputOption = None, as_json: JsonOption = False) -> None:
    """Have the writer write a block of questions about every image."""
    _stages(recipe, output, as_json, ("generate",))


@app.command("extract")
def extract(recipe: RecipeArgument, output: OutputOption = None, as_json: JsonOption = False) -> None:
    """Read the questions out of the blocks; what cannot be used gets a reason."""
    _stages(recipe, output, as_json, ("extract",))


@app.command("answer")
def answer(recipe: RecipeArgument, output: OutputOption = None, as_json: JsonOption = False) -> None:
    """Have the answerer answer every question in several orders of its options, with and without the image."""
    _stages(recipe, output, as_json, ("answer",))


@app.command("filter")
def filter_questions(
    recipe: RecipeArgument, output: OutputOption = None, partial: PartialOption = False, as_json: JsonOption = False
) -> None:
    """Keep the questions that need the image, as the recipe says; write set, statistics and page."""
    loaded = _loaded(recipe, output)
    _finish(loaded, loaded.filter, partial, as_json)


@app.command("refilter")
def refilter(
    recipe: RecipeArgument,
    *,
    output: OutputOption = None,
    visual_above: Annotated[float | None, typer.Option(help="Accuracy with the image must exceed this.")] = None,
    visual_inclusive: Annotated[bool | None, typer.Option(help="… or equal it.")] = None,
    text_below: Annotated[float | None, typer.Option(help="Accuracy without the image must be below this.")] = None,
    text_inclusive: Annotated[bool | None, typer.Option(help="… or equal it.")] = None,
    confident: Annotated[bool | None, typer.Option(help="Ask that the intervals clear the thresholds.")] = None,
    level: Annotated[float | None, typer.Option(help="Confidence of the intervals, 0.5 to 1.")] = None,
    per_image: Annotated[int | None, typer.Option(min=1, help="Kept questions of one image at most.")] = None,
    balance: Annotated[str | None, typer.Option(help="keep or shuffle the options' order.")] = None,
    held_out: Annotated[float | None, typer.Option(help="Share of the images set apart.")] = None,
    decontaminate: Annotated[str | None, typer.Option(help="File of sha256 that must not be trained on.")] = None,
    partial: PartialOption = False,
    as_json: JsonOption = False,
) -> None:
    """Filter again with other thresholds, from the stored replies: no model is asked, earlier sets stay as they are."""
    from pydantic import ValidationError

    from caprl_core.errors import BadInputError
    from caprl_core.recipe.qa import FilterRecipe

    loaded = _loaded(recipe, output)
    given = {
        "visual_above": visual_above,
        "visual_inclusive": visual_inclusive,
        "text_below": text_below,
        "text_inclusive": text_inclusive,
        "confident": confident,
        "level": level,
        "per_image": per_image,
        "balance": balance,
        "held_out": held_out,
        "decontaminate": decontaminate,
    }
    changed = {name: value for name, value in given.items() if value is not None}
    try:
        chosen = FilterRecipe.model_validate(loaded.filter.model_dump() | changed)
    except ValidationError as error:
        problems = "; ".join(f"--{str(e['loc'][0]).replace('_', '-')}: {e['msg']}" for e in error.errors())
        raise BadInputError(problems) from error
    _finish(loaded, chosen, partial, as_json)


@app.command("stats")
def stats(
    recipe: RecipeArgument,
    output: OutputOption = None,
    curated: Annotated[str | None, typer.Option("--set", help="Id of a curated set; default: the newest.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Show what became of the questions of a curated set."""
    from caprl_core.qa.finish import read_stats, stats_lines

    found = read_stats(_loaded(recipe, output), curated)
    if as_json:
        typer.echo(json.dumps(found.as_json(), indent=2, ensure_ascii=False))
        return
    for line in stats_lines(found):
        typer.echo(line)


@app.command("export")
def export(
    recipe: RecipeArgument,
    *,
    out: Annotated[str, typer.Option("--out", "-o", help="Folder or `s3://` prefix to write to.")],
    output: OutputOption = None,
    curated: Annotated[str | None, typer.Option("--set", help="Id of a curated set; default: the newest.")] = None,
    rows_per_file: Annotated[int, typer.Option(min=1, help="Images a parquet file.")] = 5000,
    as_json: JsonOption = False,
) -> None:
    """Write a curated set with its images, as parquet in the schema of the released CapRL-QA-75K."""
    from caprl_core.qa.finish import newest_set, open_stages, read_stats
    from caprl_core.qa.sets.released import write_released
    from caprl_core.storage.store import Store

    loaded = _loaded(recipe, output)
    storage = loaded.execution.storage
    sets = Store(loaded.execution.output, storage)
    chosen = curated or newest_set(loaded, sets)
    images, target = open_stages(loaded).images.store, Store(out, storage)
    reports = {
        split: write_released(sets, chosen, images, target, split=split, rows_per_file=rows_per_file, storage=storage)
        for split in SPLITS
        if split in read_stats(loaded, chosen).images_kept or split == "train"
    }
    if as_json:
        typer.echo(json.dumps({split: report._asdict() for split, report in reports.items()}))
        return
    for split, report in reports.items():
        typer.echo(f"{split}: {report.questions:,} questions on {report.images:,} images, {len(report.files)} files")
    typer.echo(out)


def _loaded(recipe: str, output: str | None) -> "QaRecipe":
    from caprl_core.recipe.load import load_qa_recipe
    from caprl_core.recipe.relocate import relocated

    return relocated(load_qa_recipe(recipe), output)


def _finish(recipe: "QaRecipe", chosen: "FilterRecipe", partial: bool, as_json: bool) -> None:
    from caprl_core.qa.finish import finish, stats_lines

    live = sys.stderr.isatty() and not as_json

    def progress(done: int, total: int) -> None:
        if live:
            typer.echo(f"\r{done:,} of {total:,} shards", err=True, nl=done == total)

    finished: Finished = finish(recipe, chosen, partial=partial, progress=progress)
    summary: dict[str, Any] = finished.summary()
    if as_json:
        typer.echo(json.dumps(summary, indent=2))
        return
    for line in stats_lines(finished.stats):
        typer.echo(line)
    typer.echo(summary["uri"])
