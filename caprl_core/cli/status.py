"""`caprl status`: where a dataset stands, read from its store alone."""

import json
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from caprl_core.cli.quantities import duration
from caprl_core.cli.target import TargetArgument, open_target
from caprl_core.exit_codes import ExitCode

if TYPE_CHECKING:
    from caprl_core.shards.progress import Progress


def status(
    target: TargetArgument,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Show it again and again until it is done.")] = False,
    interval: Annotated[float, typer.Option(min=1, help="Seconds between looks with --watch.")] = 10.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, one line a look.")] = False,
) -> None:
    """Done, running, rejected by reason, quarantined; rate, time left, GPU-hours and cost.

    Ends with 0 when every shard is committed, with 5 when some are quarantined, else with 3. GPUs and their price come
    from the recipe (`execution.cost`); given only an address, one GPU a lane is assumed.
    """
    from caprl_core.recipe.models import CostExecution
    from caprl_core.shards.dataset import open_dataset
    from caprl_core.shards.progress import progress

    store, recipe = open_target(target)
    dataset = open_dataset(store, recipe)
    cost = recipe.execution.cost if recipe else CostExecution()
    while True:
        found = progress(dataset, cost)
        typer.echo(json.dumps(_facts(found, store.uri)) if as_json else _text(found, store.uri))
        code = _exit_code(found)
        if not watch or code == ExitCode.OK:
            raise typer.Exit(code)
        time.sleep(interval)
        if not as_json:
            typer.echo()


def _exit_code(found: "Progress") -> ExitCode:
    if found.quarantined:
        return ExitCode.QUARANTINED
    return ExitCode.OK if found.shards_done == found.shards else ExitCode.INCOMPLETE


def _facts(found: "Progress", uri: str) -> dict[str, Any]:
    running = [
        {"shard": item.unit.shard, "revision": item.unit.revision, "logged": item.logged, "alive": item.alive}
        for item in found.running
    ]
    return found._asdict() | {"uri": uri, "running": running}


def _text(found: "Progress", uri: str) -> str:
    done = found.rows + found.rejected
    share = 100 * done / found.samples if found.samples else 100.0
    lines = [
        f"{found.name}  {uri}",
        f"samples   {done:,} of {found.samples:,} committed ({share:.1f} %), {found.logged_samples:,} more in logs",
        f"shards    {found.shards_done:,} of {found.shards:,} committed, {found.revisions:,} superseded revisions",
        f"rows      {found.rows:,}"
        + _counts({f"attempt {number}:": count for number, count in found.attempts.items()}),
        f"rejected  {found.rejected:,}" + _counts({f"{reason}:": count for reason, count in found.reasons.items()}),
    ]
    if found.quarantined:
        numbers = ", ".join(map(str, found.quarantined[:20])) + (" …" if len(found.quarantined) > 20 else "")
        lines.append(f"quarantined  shards {numbers}: see `caprl release --help`")
    alive = [item for item in found.running if item.alive]
    if alive:
        shown = ", ".join(f"{item.unit} ({item.logged:,})" for item in alive[:8]) + (" …" if len(alive) > 8 else "")
        lines.append(f"running   {shown}")
    left = f", {duration(found.eta_s)} left at this rate" if found.eta_s is not None and found.pending_samples else ""
    if found.rate is not None:
        lines.append(f"rate      {found.rate:.2f} samples/s{left}")
    more = f", about {found.gpu_hours_left:.3f} more" if found.gpu_hours_left else ""
    lines.append(
        f"spent     {found.gpu_hours:.3f} GPU-hours{more}; {found.prompt_tokens:,} prompt and "
        f"{found.completion_tokens:,} completion tokens"
    )
    if found.cost:
        more = f", about {found.cost_left:,.2f} more" if found.cost_left else ""
        lines.append(f"cost      {found.cost:,.2f} {found.currency}{more}")
    return "\n".join(lines)


def _counts(counts: dict[str, int]) -> str:
    return f" ({', '.join(f'{name} {count:,}' for name, count in counts.items())})" if counts else ""
