"""`caprl world`: draw pictures with known content, see the tiny models' figures, train them again from nothing."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from caprl_core.cli.become import JsonOption

app = typer.Typer(help="The embedded world: drawn pictures and tiny models.", no_args_is_help=True)


@app.command("draw")
def draw(
    out: Annotated[Path, typer.Argument(help="Folder to draw into.")],
    *,
    count: Annotated[int, typer.Option(min=1, help="Pictures.")] = 100,
    seed: Annotated[int, typer.Option(min=0, help="The same seed draws the same pictures.")] = 0,
    held_out: Annotated[bool, typer.Option("--held-out", help="Scenes that no model was trained on.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Draw pictures, with a `scenes.jsonl` beside them: content, complete caption and questions with answers."""
    from caprl_core.world.drawn_folder import draw_folder

    index = draw_folder(out, "held_out" if held_out else "train", count, seed)
    typer.echo(json.dumps({"pictures": count, "index": str(index)}) if as_json else f"{count:,} pictures, {index}")


@app.command("benchmark")
def benchmark(
    out: Annotated[Path, typer.Argument(help="Folder to write into.")],
    *,
    count: Annotated[int, typer.Option(min=1, help="Pictures.")] = 96,
    seed: Annotated[int, typer.Option(min=0, help="The same seed draws the same pictures.")] = 1,
    as_json: JsonOption = False,
) -> None:
    """Draw a benchmark for `caprl prism`: held-out pictures, true questions, and captions that say everything."""
    from caprl_core.world.benchmark import write_benchmark

    written = write_benchmark(out, "held_out", count, seed)
    if as_json:
        typer.echo(json.dumps({name: str(path) for name, path in written._asdict().items()}))
        return
    typer.echo(f"{count:,} pictures in {written.pictures}\nquestions: {written.questions}\ncaptions: {written.perfect}")


@app.command("models")
def models(as_json: JsonOption = False) -> None:
    """List the tiny models that come with the project, and their figures on held-out pictures."""
    from caprl_core.world.model_folders import MODELS, committed_figures, committed_model

    found = []
    for name in MODELS:
        try:
            found.append(committed_figures(name) | {"folder": str(committed_model(name))})
        except FileNotFoundError:
            found.append({"model": name, "folder": None})
    if as_json:
        typer.echo(json.dumps(found, indent=2))
        return
    for one in found:
        if one["folder"] is None:
            typer.echo(f"{one['model']}: not among the committed models")
            continue
        typer.echo(f"{one['model']}: {one['folder']}")
        _show(one)


@app.command("rebuild")
def rebuild(
    names: Annotated[list[str] | None, typer.Argument(help="captioner, reader, answerer, writer; or all.")] = None,
    *,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to train into.")] = Path(".demo/models"),
    seed: Annotated[int, typer.Option(min=0, help="Seed of weights and data.")] = 0,
    steps: Annotated[int | None, typer.Option(min=1, help="Updates; default: what the committed ones had.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Train models from nothing, on one core each: minutes for the captioner, longer for the others."""
    from caprl_core.errors import BadInputError
    from caprl_core.world.model_folders import MODELS
    from caprl_core.world.training.rebuild import rebuild as train

    unknown = set(names or ()) - set(MODELS)
    if unknown:
        raise BadInputError(f"no model {', '.join(sorted(unknown))}: there are {', '.join(MODELS)}")
    for name in [name for name in MODELS if not names or name in names]:
        figures = train(
            name, out, seed=seed, steps=steps, tell=None if as_json else lambda line: typer.echo(line, err=True)
        )
        if as_json:
            typer.echo(json.dumps(figures))
            continue
        typer.echo(f"{name}: {out / name}")
        _show(figures)


def _show(figures: dict[str, Any]) -> None:
    typer.echo(
        f"  seed {figures['seed']}, {figures['steps']:,} steps, {figures['cpu_seconds']:,} CPU-seconds; "
        f"on {figures['evaluated']:,} held-out scenes:"
    )
    for setting, values in figures["held_out"].items():
        typer.echo(f"  {setting}: {', '.join(f'{name} {value:.3f}' for name, value in values.items())}")
