"""`caprl export`: a finished dataset in the format of a trainer, as a Hugging Face repository, JSONL or parquet."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from caprl_core.cli.target import TargetArgument, open_target
from caprl_core.exit_codes import ExitCode

if TYPE_CHECKING:
    from caprl_core.export.join import JoinReport
    from caprl_core.export.manifest import ExportReport
    from caprl_core.recipe.models import CaptionRecipe
    from caprl_core.shards.dataset import Dataset

FORMATS = ("jsonl", "parquet", "huggingface", "llamafactory", "llava", "ms-swift", "qwen-vl-finetune")
_ROWS = "jsonl and parquet"
_TRAINERS = "llamafactory, llava, ms-swift and qwen-vl-finetune"
"""Which formats an option is for, in the words of messages."""


def export(
    target: TargetArgument,
    *,
    out: Annotated[
        str,
        typer.Option("--out", "-o", help="File (jsonl, parquet, --join) or folder to write; `s3://` but for trainers."),
    ],
    format_: Annotated[str, typer.Option("--format", help=f"One of {', '.join(FORMATS)}.")] = "jsonl",
    form: Annotated[
        str | None,
        typer.Option(
            help="jsonl, parquet: standard (image, caption, provenance), full (all columns), minimal (CapRL-2M)."
        ),
    ] = None,
    fields: Annotated[
        str | None, typer.Option(help="jsonl, parquet: columns to take instead, in this order: `image,caption,…`.")
    ] = None,
    files: Annotated[
        int | None, typer.Option(min=1, help="jsonl, parquet, huggingface: split rows evenly into this many files.")
    ] = None,
    images: Annotated[
        Path | None, typer.Option(help="Trainers: extract the pictures into this folder; OUT/images by default.")
    ] = None,
    image_root: Annotated[
        Path | None, typer.Option(help="Trainers: the pictures lie below this folder, by the source's own paths.")
    ] = None,
    relative_to: Annotated[
        Path | None, typer.Option(help="Trainers: image paths below this folder are relative to it; OUT by default.")
    ] = None,
    check_images: Annotated[
        bool, typer.Option("--check-images", help="Trainers: hash pictures that are there already, too.")
    ] = False,
    instructions: Annotated[
        Path | None,
        typer.Option(help="Trainers: texts to draw from, one a line or a YAML list; default is the prompt."),
    ] = None,
    layout: Annotated[str | None, typer.Option(help="Trainers: json (one array) or jsonl; default depends.")] = None,
    license_: Annotated[
        str | None, typer.Option("--license", help="huggingface: hub identifier of the terms, like `cc-by-nc-4.0`.")
    ] = None,
    source_licence: Annotated[
        list[str] | None, typer.Option(help="huggingface: `SOURCE=LICENCE`, for the card; repeat for each source.")
    ] = None,
    examples: Annotated[int, typer.Option(min=0, max=50, help="huggingface: example pictures on the card.")] = 6,
    join: Annotated[
        str | None, typer.Option(help="Put our captions into this annotation file of the source's, and write that.")
    ] = None,
    join_source: Annotated[str | None, typer.Option(help="--join: name of the source in the recipe.")] = None,
    unmatched: Annotated[str, typer.Option(help="--join: records without a caption of ours: drop or keep.")] = "drop",
    sample: Annotated[
        list[str] | None, typer.Option(help="Draw so many rows: 500k, 1m; repeat for nested samples, a file each.")
    ] = None,
    validation: Annotated[float, typer.Option(help="Hold out this share of the images in a file of their own.")] = 0.0,
    seed: Annotated[int, typer.Option(min=0, help="Of samples, the held-out share and drawn instructions.")] = 0,
    attempt: Annotated[
        int | None, typer.Option(min=1, help="Only rows of this attempt (retries shift the distribution).")
    ] = None,
    partial: Annotated[
        bool, typer.Option("--partial", help="Export what is committed though samples are pending.")
    ] = False,
    threads: Annotated[int, typer.Option(min=1, help="Shards read at once.")] = 8,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Write a dataset in a format others read, with a manifest beside it. Ends with 3 while samples are pending."""
    from caprl_core.errors import BadInputError, IncompleteError
    from caprl_core.export.subsets import Division, parse_count
    from caprl_core.shards.dataset import open_dataset

    if format_ not in FORMATS:
        raise BadInputError(f"--format {format_}: take one of {', '.join(FORMATS)}")
    if join is not None and format_ != "jsonl":
        raise BadInputError(f"--join writes the source's own format; leave --format {format_} out")
    rows, trainer, hub = format_ in ("jsonl", "parquet"), format_ not in FORMATS[:3], format_ == "huggingface"
    _refuse(format_, join, _ROWS, {"form": form, "fields": fields}, meant=rows)
    _refuse(format_, join, f"{_ROWS}, and huggingface", {"files": files}, meant=rows or hub)
    _refuse(format_, join, "huggingface", {"license": license_, "source_licence": source_licence}, meant=hub)
    of_trainers: dict[str, Any] = {"images": images, "image_root": image_root, "relative_to": relative_to}
    of_trainers |= {"layout": layout, "check_images": check_images}
    _refuse(format_, join, _TRAINERS, of_trainers | {"instructions": instructions}, meant=trainer)
    store, recipe = open_target(target)
    division = Division(
        samples=tuple(parse_count(text) for text in sample or ()), validation=validation, attempt=attempt, seed=seed
    )
    shown = _shown(live=sys.stderr.isatty() and not as_json)
    common: dict[str, Any] = {"division": division, "partial": partial, "threads": threads, "progress": shown("shards")}
    dataset = open_dataset(store, recipe)
    try:
        if trainer and join is None:
            common |= of_trainers | {"extracting": shown("pictures at hand")}
            done = _for_trainer(dataset, out, format_, instructions=instructions, seed=seed, common=common)
        else:
            common |= _places(recipe)
            if join is not None:
                common["joining"] = shown("records")
                joined = _join(dataset, join, out, source=join_source, unmatched=unmatched, common=common)
                _tell_join(joined, as_json=as_json)
                return
            if hub:
                from caprl_core.export.huggingface import export_huggingface

                said = licences(source_licence)
                done = export_huggingface(
                    dataset, out, licence=license_, source_licences=said, examples=examples, files=files, **common
                )
            else:
                common["fields"] = [name.strip() for name in fields.split(",")] if fields is not None else None
                done = _rows(dataset, out, format_=format_, form=form, common=common | {"files": files or 1})
    except IncompleteError as error:
        typer.secho(f"caprl: {error}", fg=typer.colors.RED, err=True)
        raise typer.Exit(ExitCode.INCOMPLETE) from None
    _tell(done, as_json=as_json)


def licences(texts: list[str] | None) -> dict[str, str]:
    """`["coco=cc-by-4.0"]` -> `{"coco": "cc-by-4.0"}`."""
    from caprl_core.errors import BadInputError

    found: dict[str, str] = {}
    for text in texts or ():
        name, equals, licence = text.partition("=")
        if not (name.strip() and equals and licence.strip()):
            raise BadInputError(f"--source-licence {text}: write SOURCE=LICENCE, like coco=cc-by-4.0")
        found[name.strip()] = licence.strip()
    return found


def _refuse(format_: str, join: str | None, formats: str, given: dict[str, Any], *, meant: bool) -> None:
    """An option that would be without effect is a mistake."""
    from caprl_core.errors import BadInputError

    names = [name for name, value in given.items() if value]
    if names and (join is not None or not meant):
        other = "--join" if join is not None else f"--format {format_}"
        raise BadInputError(f"--{names[0].replace('_', '-')} is for {formats}; it means nothing with {other}")


def _rows(dataset: "Dataset", out: str, *, format_: str, form: str | None, common: dict[str, Any]) -> "ExportReport":
    from caprl_core.captioning.stage import CaptionStage
    from caprl_core.errors import BadInputError
    from caprl_core.export.forms import FORMS
    from caprl_core.export.jsonl import export_jsonl
    from caprl_core.export.parquet import export_parquet, schema_of

    if form is not None:
        chosen = next((name for name in FORMS if name == form), None)
        if chosen is None:
            meant = f"; {form} is a --format" if form in FORMATS else ""
            raise BadInputError(f"--form {form}: take one of {', '.join(FORMS)}{meant}")
        common["form"] = chosen
    if format_ == "parquet":
        return export_parquet(dataset, out, schema_of(dataset, CaptionStage.fields), **common)
    return export_jsonl(dataset, out, **common)


def _for_trainer(
    dataset: "Dataset", out: str, name: str, *, instructions: Path | None, seed: int, common: dict[str, Any]
) -> "ExportReport":
    from caprl_core.errors import BadInputError
    from caprl_core.export.instructions import read_instructions
    from caprl_core.export.trainer_files import export_for_trainer
    from caprl_core.export.trainers.known import TRAINERS

    if common["layout"] not in (None, "json", "jsonl"):
        raise BadInputError(f"--layout {common['layout']}: take json or jsonl")
    texts = read_instructions(instructions.expanduser(), seed) if instructions is not None else None
    return export_for_trainer(dataset, out, TRAINERS[name], instructions=texts, **common)


def _join(
    dataset: "Dataset", records: str, out: str, *, source: str | None, unmatched: str, common: dict[str, Any]
) -> "JoinReport":
    from caprl_core.errors import BadInputError
    from caprl_core.export.join import UNMATCHED, join_captions

    chosen = next((name for name in UNMATCHED if name == unmatched), None)
    if chosen is None:
        raise BadInputError(f"--unmatched {unmatched}: take drop or keep")
    return join_captions(dataset, records, out, source=source, unmatched=chosen, **common)


def _places(recipe: "CaptionRecipe | None") -> dict[str, Any]:
    """Where the recipe says things lie."""
    if recipe is None:
        return {}
    return {"storage": recipe.execution.storage, "scratch": recipe.execution.runner.spool_dir}


def _shown(*, live: bool) -> Callable[[str], Callable[[int, int], None]]:
    """Makes one line of progress that is drawn over, on terminals only."""

    def of(what: str) -> Callable[[int, int], None]:
        def show(done: int, total: int) -> None:
            if live:
                text = f"{done:,} of {total:,} {what}" if total else f"{done:,} {what}"
                typer.echo(f"\r{text}\x1b[K", err=True, nl=bool(total) and done == total)

        return show

    return of


def _tell(report: "ExportReport", *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(report._asdict() | {"files": [item._asdict() for item in report.files]}, indent=2))
        return
    for item in report.files:
        typer.echo(f"{item.name}: {item.rows:,} rows, {item.size / 1e6:,.1f} MB, sha256 {item.sha256}")
    pending = f", {report.pending:,} still pending" if report.pending else ""
    typer.echo(f"{report.rows:,} rows; {report.rejected:,} samples were rejected{pending}; {report.manifest}")
    if report.missing:
        typer.secho(
            f"{report.missing:,} rows are left out: their pictures were not found; see the .missing-images.jsonl",
            fg=typer.colors.YELLOW,
            err=True,
        )
    if report.escaped:
        typer.echo(f"{report.escaped:,} captions had a marker such as <image>, escaped by one backslash")
    if report.use:
        typer.echo(f"\n{report.use}")


def _tell_join(report: "JoinReport", *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(report._asdict() | {"files": [item._asdict() for item in report.files]}, indent=2))
        return
    for item in report.files:
        typer.echo(f"{item.name}: {item.rows:,} records, {item.size / 1e6:,.1f} MB, sha256 {item.sha256}")
    typer.echo(
        f"{report.records:,} records: {report.joined:,} with our caption, {report.unmatched:,} without, "
        f"{report.unreadable:,} unreadable; {report.captions:,} captions in the dataset; {report.manifest}"
    )
    if report.unbalanced:
        typer.secho(
            f"{report.unbalanced:,} records hold another number of <image> than images, as in the source",
            fg=typer.colors.YELLOW,
            err=True,
        )
