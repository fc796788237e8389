"""`caprl release`: an operator's decision on quarantined shards."""

from typing import TYPE_CHECKING, Annotated

import typer

from caprl_core.cli.target import TargetArgument, open_target

if TYPE_CHECKING:
    from caprl_core.storage.layout import Unit
    from caprl_core.storage.store import Store


def release(
    target: TargetArgument,
    shards: Annotated[list[int], typer.Argument(help="Numbers of quarantined shards.", metavar="SHARD...")],
    accept: Annotated[bool, typer.Option("--accept", help="Publish what is there, rejected samples and all.")] = False,
    redo: Annotated[bool, typer.Option("--redo", help="Forget the replies so far and ask every sample again.")] = False,
) -> None:
    """Release quarantined shards; the next `caprl annotate` carries the decision out."""
    from caprl_core.errors import BadInputError
    from caprl_core.shards import gate
    from caprl_core.shards.dataset import open_dataset

    if accept == redo:
        raise BadInputError("release: say either --accept (publish as it is) or --redo (ask every sample again)")
    store, recipe = open_target(target)
    open_dataset(store, recipe)
    units = [_quarantined(store, shard) for shard in shards]  # all of them, before the first is touched
    for unit in units:
        if accept:
            gate.accept(store, unit)
            typer.echo(f"shard {unit.shard}: will be published as it is by the next run")
        else:
            forgotten = gate.redo(store, unit)
            typer.echo(f"shard {unit.shard}: will be asked again by the next run ({forgotten} attempts forgotten)")


def _quarantined(store: "Store", shard: int) -> "Unit":
    """The uncommitted, quarantined unit of a shard."""
    from caprl_core.errors import BadInputError
    from caprl_core.shards.gate import quarantined_units
    from caprl_core.storage.commit import list_units

    waiting = sorted(quarantined_units(store).keys() - set(list_units(store)))
    for unit in waiting:
        if unit.shard == shard:
            return unit
    known = ", ".join(str(unit.shard) for unit in waiting[:20]) or "none"
    raise BadInputError(f"{store.uri}: shard {shard} is not in quarantine; those that are: {known}")
