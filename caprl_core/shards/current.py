"""The commits a reader of a whole dataset uses: the newest revision of each shard, checked against the dataset."""

from typing import NamedTuple

from caprl_core.errors import StoreError
from caprl_core.shards.dataset import Dataset
from caprl_core.storage.commit import CommitRecord, latest_units, list_units, read_commits


class Current(NamedTuple):
    """`records` in shard order, which is plan order; `pending` counts the planned samples they do not cover."""

    records: tuple[CommitRecord, ...]
    pending: int


def current_commits(dataset: Dataset) -> Current:
    """One listing, and every record from its own object: what leaves the store is never vouched for by a cached copy.

    Raises `StoreError` for a commit that is not of this dataset.
    """
    newest = latest_units(list_units(dataset.store))
    records = tuple(read_commits(dataset.store, [newest[shard] for shard in sorted(newest)], use_cache=False))
    for record in records:
        if record.fingerprint != dataset.record.fingerprint or not record.shard < dataset.record.shards:
            raise StoreError(
                f"{dataset.store.uri}: commit {record.unit} does not belong to dataset {dataset.record.name!r}; "
                "run `caprl verify`"
            )
    return Current(records, dataset.record.samples - sum(record.samples for record in records))
