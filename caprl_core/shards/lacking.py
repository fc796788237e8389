"""What a dataset still lacks, from its store alone: missing, half published, quarantined and rejected."""

from collections.abc import Mapping
from typing import NamedTuple

from caprl_core.recipe.models import CostExecution
from caprl_core.shards.dataset import Dataset
from caprl_core.shards.gate import quarantined_units
from caprl_core.shards.progress import progress, unfinished_units
from caprl_core.shards.revise import next_unit, revisable
from caprl_core.storage.commit import list_units
from caprl_core.storage.layout import Unit


class Lacking(NamedTuple):
    """Units to be worked, in this order.

    missing:     without a commit, or committed and not fully published.
    quarantined: without a commit, and the gate has refused one.
    rejected:    next revisions of shards that hold rejected samples; last those that the gate has refused before.
    refused:     units of these that the gate has refused, revisions too: most likely it does so again.
    at_work:     units left alone, as an attempt's log has grown within the last two minutes.
    given_up:    shards whose rejected samples have had their revisions.
    samples:     of each unit; of a revision too all of its shard, those taken over included.
    committed:   units with a commit.
    """

    missing: tuple[Unit, ...]
    quarantined: tuple[Unit, ...]
    rejected: tuple[Unit, ...]
    refused: frozenset[Unit]
    at_work: tuple[Unit, ...]
    given_up: tuple[int, ...]
    samples: Mapping[Unit, int]
    committed: frozenset[Unit]


def lacking(dataset: Dataset, reasons: frozenset[str], max_revisions: int) -> Lacking:
    """Read it from listings and commit records. `reasons` of rejected samples count, while their shard has had fewer
    than `max_revisions` revisions."""
    committed = frozenset(list_units(dataset.store))
    unfinished = unfinished_units(dataset)
    held = quarantined_units(dataset.store).keys() - committed
    # The log of an attempt that the gate has refused may be young, but nobody is at work on it.
    alive = {one.unit for one in progress(dataset, CostExecution()).running if one.alive} - held
    records = revisable(dataset, reasons)
    again = {next_unit(record): record for record in records if record.revision < max_revisions}
    free = [unit for unit in unfinished if unit not in alive]
    samples = {unit: dataset.shard_samples(unit.shard) for unit in unfinished}
    samples |= {unit: record.samples for unit, record in again.items()}
    return Lacking(
        missing=tuple(unit for unit in free if unit not in held),
        quarantined=tuple(unit for unit in free if unit in held),
        rejected=tuple(sorted((unit for unit in again if unit not in alive), key=lambda unit: (unit in held, unit))),
        refused=frozenset(held & {*unfinished, *again}),
        at_work=tuple(sorted(alive & {*unfinished, *again})),
        given_up=tuple(sorted(record.shard for record in records if record.revision >= max_revisions)),
        samples=samples,
        committed=committed,
    )
