"""`caprl plan`: read the sources once, decide which sample goes into which shard, create the dataset."""

import json
import sys
from typing import Annotated

import typer

from caprl_core.cli.become import OutputOption, RecipeArgument

REPORT_EVERY = 100_000
"""Records between progress messages; parsing runs at some 100,000 records/s."""


def plan(
    recipe: RecipeArgument,
    output: OutputOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Plan a dataset: which sample goes into which shard, duplicates, malformed records. Needs no engine.

    Planning again checks that recipe and sources are still those the dataset was planned with.
    """
    from caprl_core.recipe.load import load_recipe
    from caprl_core.recipe.relocate import relocated
    from caprl_core.shards.dataset import create_dataset, has_dataset, open_dataset
    from caprl_core.shards.plan import write_plan
    from caprl_core.storage.store import Store

    loaded = relocated(load_recipe(recipe), output)
    store = Store(loaded.execution.output, loaded.execution.storage)
    planned_before = has_dataset(store)
    if planned_before:
        open_dataset(store, loaded)  # refuses another recipe before hours of reading
    live = sys.stderr.isatty() and not as_json

    def progress(records: int) -> None:
        if live and (records % REPORT_EVERY < 8192):
            typer.echo(f"{records:,} records read", err=True)

    report = write_plan(loaded, store, progress)
    dataset = create_dataset(loaded, store, report)
    if as_json:
        facts = report._asdict() | {"uri": store.uri, "fingerprint": dataset.record.fingerprint}
        typer.echo(json.dumps(facts | {"planned_before": planned_before}, indent=2))
        return
    typer.echo(
        f"{dataset.record.name}: {report.samples:,} samples in {report.shards:,} shards"
        + (" (planned before, and still the same)" if planned_before else "")
    )
    for source, records in report.records.items():
        typer.echo(f"  {source}: {records:,} records")
    if report.problems:
        typer.echo(f"  {report.problems:,} records are malformed; they will be ledger lines")
    if report.duplicates:
        kept = "dropped" if report.dropped else "kept"
        typer.echo(f"  {report.duplicates:,} duplicates of an image, {kept}, for example:")
        for again, first in report.duplicate_examples[:3]:
            typer.echo(f"    {again} = {first}")
    typer.echo(f"{store.uri}/{report.key}")
