"""`caprl sweep`: delete what no commit needs."""

import json
from typing import Annotated

import typer

from caprl_core.cli.target import TargetArgument, open_target

SHOWN = 20


def sweep(
    target: TargetArgument,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be deleted.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the keys as JSON.")] = False,
) -> None:
    """Delete the objects and logs of attempts at committed, published shards: losers of a race, and killed ones.

    Logs of shards that are not committed stay, because a resume needs them.
    """
    from caprl_core.shards.dataset import open_dataset
    from caprl_core.storage.commit import list_units, read_commits
    from caprl_core.storage.publish import sweep as run

    store, recipe = open_target(target)
    open_dataset(store, recipe)
    keys = run(store, read_commits(store, list_units(store)), dry_run=dry_run)
    if as_json:
        typer.echo(json.dumps({"uri": store.uri, "dry_run": dry_run, "keys": keys}, indent=2))
        return
    typer.echo(f"{store.uri}: {len(keys):,} objects {'would be' if dry_run else 'were'} deleted")
    for key in keys[:SHOWN]:
        typer.echo(f"  {key}")
    if len(keys) > SHOWN:
        typer.echo(f"  and {len(keys) - SHOWN:,} more (--json lists all)")
