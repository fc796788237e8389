"""The flow that finds, from the bucket alone, what a dataset still lacks, and runs just that.

Shards that are missing or half published, then shards in quarantine, then samples that were rejected. What another run
is at work on is left to it, so this may be scheduled beside a running factory; when nothing is left it ends at once.
`python -m flows.resume_failed --config FILE` runs it in this process.
"""

if __name__ == "__main__":
    # Before Prefect is imported: it reads its settings and sets up logging at that moment.
    from flows.command_line import resume_failed_command

    resume_failed_command()

from typing import Any

from prefect import flow, get_run_logger
from prefect.task_runners import ThreadPoolTaskRunner

from caprl_core.captioning.stage import CaptionStage
from caprl_core.engines.open import open_engine
from caprl_core.recipe.load import load_recipe
from caprl_core.recipe.relocate import relocated
from caprl_core.shards.dataset import open_dataset
from caprl_core.shards.events import Observer, ShardResult
from caprl_core.shards.lacking import lacking
from caprl_core.shards.lane import Lane
from caprl_core.shards.progress import RUNNING_WITHIN
from caprl_core.shards.revise import known_reasons
from caprl_core.shards.revise import retry_rejected as revise_unit
from caprl_core.shards.slices import show_units
from caprl_core.storage.layout import Unit
from caprl_core.storage.store import Store
from flows.run_names import named_by
from flows.shard_run import MAX_IN_FLIGHT, part_start, run_shards


@flow(
    name="resume-failed",
    flow_run_name=named_by(load_recipe, "resume"),
    task_runner=ThreadPoolTaskRunner(max_workers=MAX_IN_FLIGHT),  # type: ignore[arg-type]
    persist_result=False,
)
def resume_failed(
    config: str,
    output: str | None = None,
    reasons: list[str] | None = None,
    max_revisions: int = 3,
    max_shards: int | None = None,
) -> dict[str, Any]:
    """Work what is missing, quarantined or rejected, at most `max_shards` shards; returns a summary.

    Rejected samples of `reasons` (default: all) are asked again in a new revision of their shard, until it has
    `max_revisions` of them: a picture that is broken stays broken, and a nightly run must not redo it for ever.
    """
    recipe = relocated(load_recipe(config), output)
    wanted = known_reasons(reasons or ())
    dataset = open_dataset(Store(recipe.execution.output, recipe.execution.storage), recipe)
    found = lacking(dataset, wanted, max_revisions)
    units = [*found.missing, *found.quarantined, *found.rejected][:max_shards]
    again = frozenset(found.rejected)
    lines = []
    if found.at_work:
        lines.append(
            f"left to another run, whose log is younger than {RUNNING_WITHIN.total_seconds():.0f} s: shards "
            f"{show_units(sorted({Unit(unit.shard, 0) for unit in found.at_work}))}; run this again if there is none"
        )
        get_run_logger().warning(lines[0])
    samples = sum(found.samples[unit] for unit in units if unit not in found.committed)

    def work(lane: Lane, unit: Unit, observe: Observer) -> ShardResult:
        if unit in again:
            return revise_unit(lane, dataset, unit, wanted, observe)
        return lane.run(unit, observe)

    summary = run_shards(
        "resume-failed",
        recipe,
        dataset,
        stage=CaptionStage(recipe),
        open_engine=lambda: open_engine(recipe),
        units=units,
        start=part_start(dataset, units, samples, found.committed),
        run_unit=work,
        expected_to_fail=found.refused,
    )
    counts = {
        "missing": len(found.missing),
        "quarantined": len(found.quarantined),
        "rejected": len(found.rejected),
        "left_to_others": len(found.at_work),
        "given_up": len(found.given_up),
        "lines": lines,
    }
    return summary | counts
