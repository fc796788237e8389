"""Redoing rejected samples: a superseding revision of the shard, through the same protocol, never an overwrite."""

from collections.abc import Collection, Iterator
from typing import Any

from caprl_core.data.reasons import Reason
from caprl_core.errors import BadInputError
from caprl_core.shards.dataset import Dataset
from caprl_core.shards.events import Observer, ShardResult
from caprl_core.shards.lane import Lane
from caprl_core.shards.previous import take_over
from caprl_core.shards.scratch import scratch_folder
from caprl_core.storage.commit import CommitRecord, latest_units, list_units, read_commit, read_commits
from caprl_core.storage.layout import Unit


def known_reasons(reasons: Collection[str]) -> frozenset[str]:
    """Check reason codes given by a user; an empty collection stands for all but `engine_died`, as asking for those
    samples would kill engines again. Raises `BadInputError`."""
    unknown = sorted(set(reasons) - set(Reason))
    if unknown:
        raise BadInputError(f"unknown reason {unknown[0]!r}; known are {', '.join(Reason)}")
    return frozenset(reasons) or frozenset(Reason) - {Reason.ENGINE_DIED}


def revisable(dataset: Dataset, reasons: frozenset[str]) -> list[CommitRecord]:
    """The newest commits of the shards that hold samples rejected for one of these reasons."""
    units = list_units(dataset.store)
    newest = sorted(latest_units(units).values())
    return [record for record in read_commits(dataset.store, newest) if reasons & record.reasons.keys()]


def next_unit(record: CommitRecord) -> Unit:
    """The revision after a commit."""
    return Unit(record.shard, record.revision + 1)


def retry_rejected(
    lane: Lane, dataset: Dataset, unit: Unit, reasons: frozenset[str], observe: Observer = lambda _: None
) -> ShardResult:
    """Ask the samples of the revision before `unit` that were rejected for these reasons again, and commit `unit`.

    Attempts count on, so seeds differ from those that failed. Raises what `Lane.run` raises.
    """
    if unit.revision < 1:
        raise BadInputError(f"shard {unit.shard}: revision 0 is made by `caprl annotate`")
    before = read_commit(dataset.store, Unit(unit.shard, unit.revision - 1))

    def again(line: Any) -> bool:
        return line["reason"] in reasons

    with scratch_folder(lane.scratch) as folder:
        return lane.run(unit, observe, take_over(dataset.store, before, again, folder))


def unfinished_revisions(dataset: Dataset, reasons: frozenset[str]) -> Iterator[Unit]:
    """The units a `retry-rejected` has to run."""
    for record in revisable(dataset, reasons):
        yield next_unit(record)
