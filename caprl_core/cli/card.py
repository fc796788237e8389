"""`caprl card`: the dataset card of a dataset."""

from typing import Annotated

import typer

from caprl_core.cli.target import TargetArgument, open_target


def card(
    target: TargetArgument,
    licence: Annotated[
        str | None, typer.Option("--license", help="Hub identifier of the terms, such as `cc-by-nc-4.0`.")
    ] = None,
    source_licence: Annotated[
        list[str] | None, typer.Option(help="`SOURCE=LICENCE`; repeat for each source. What is not said is not stated.")
    ] = None,
    *,
    write: Annotated[
        bool, typer.Option("--write", help="Put it beside the shards as README.md, replacing one.")
    ] = False,
) -> None:
    """Print a Hugging Face dataset card; as README.md beside `shards/` it makes `load_dataset(folder)` work."""
    from caprl_core.captioning.stage import CaptionStage
    from caprl_core.cli.export import licences
    from caprl_core.export.card import dataset_card
    from caprl_core.shards.dataset import open_dataset

    store, recipe = open_target(target)
    text = dataset_card(
        open_dataset(store, recipe), CaptionStage.fields, licence=licence, source_licences=licences(source_licence)
    )
    if write:
        store.put("README.md", text.encode())
        typer.echo(f"{store.uri}/README.md")
    else:
        typer.echo(text, nl=False)
