"""`caprl urls`: the tars a training job reads, which are those of the newest revision of each shard."""

from typing import TYPE_CHECKING, Annotated

import typer

from caprl_core.cli.target import TargetArgument, open_target
from caprl_core.exit_codes import ExitCode

if TYPE_CHECKING:
    from caprl_core.storage.layout import Unit


def urls(
    target: TargetArgument,
    brace: Annotated[
        bool, typer.Option("--brace", help="Join neighbours into WebDataset's brace notation: {000000..001999}.")
    ] = False,
) -> None:
    """Print the address of each published tar, one a line, in plan order. Ends with 3 while shards are missing."""
    from caprl_core.shards.dataset import open_dataset
    from caprl_core.storage.commit import latest_units, list_units
    from caprl_core.storage.publish import published_sizes

    store, recipe = open_target(target)
    dataset = open_dataset(store, recipe)
    newest = latest_units(list_units(store))
    published = published_sizes(store)
    name = dataset.record.name
    units = [unit for _, unit in sorted(newest.items()) if unit.final_key(name, "tar") in published]
    for line in braced(name, units) if brace else [unit.final_key(name, "tar") for unit in units]:
        typer.echo(f"{store.uri}/{line}")
    missing = dataset.record.shards - len(units)
    if missing:
        typer.echo(f"{missing:,} of {dataset.record.shards:,} shards are not published yet", err=True)
        raise typer.Exit(ExitCode.INCOMPLETE)


def braced(name: str, units: "list[Unit]") -> list[str]:
    """Keys of the tars; runs of two or more neighbouring shards without a later revision become one brace expression.

    Only numbers of one width are joined, as brace expansion keeps the width.
    """
    groups: list[list[Unit]] = []
    for unit in units:
        last = groups[-1][-1] if groups else None
        joins = (
            last is not None
            and last.revision == unit.revision == 0
            and unit.shard == last.shard + 1
            and len(f"{unit.shard:06d}") == len(f"{last.shard:06d}")
        )
        if joins:
            groups[-1].append(unit)
        else:
            groups.append([unit])
    lines = []
    for group in groups:
        first, last = group[0], group[-1]
        key = first.final_key(name, "tar")
        if len(group) > 1:
            head, _, tail = key.rpartition(f"{first.shard:06d}")
            key = f"{head}{{{first.shard:06d}..{last.shard:06d}}}{tail}"
        lines.append(key)
    return lines
