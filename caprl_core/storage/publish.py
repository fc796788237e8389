"""From commit to final names, and the sweeping of what no commit needs. Both can be repeated by anyone at any time."""

import datetime as dt
import hashlib
from collections.abc import Callable, Iterable

from caprl_core.errors import ObjectMissingError, StoreError
from caprl_core.storage.commit import CommitRecord, CommittedObject
from caprl_core.storage.layout import ATTEMPTS, LANES, SHARDS, Unit, parse_unit
from caprl_core.storage.store import Store

FORGOTTEN_AFTER = dt.timedelta(days=1)
"""Runs rarely last so long; a lane that misses its object only ends early."""


def publish(store: Store, record: CommitRecord, step: Callable[[str], None] = lambda _: None) -> None:
    """Copy a commit's objects to their final names. Copies are idempotent: committed bytes never change.

    `step` is told each finished copy. Raises `StoreError` when an object is in neither place.
    """
    for item in record.objects:
        if store.size(item.final_key) != item.size:
            try:
                store.copy(item.attempt_key, item.final_key, size=item.size)
            except ObjectMissingError as error:
                # Another copier may have finished and swept the attempt after we looked.
                if store.size(item.final_key) != item.size:
                    raise StoreError(
                        f"{store.uri}: commit {record.unit} names {item.attempt_key}, which is neither there nor "
                        f"published as {item.final_key}; restore it from a backup or a download"
                    ) from error
        step(f"{item.role} published")
    _settle(store, record)


def is_published(record: CommitRecord, sizes: dict[str, int]) -> bool:
    """True when every final name is there with the committed size; `sizes` is one listing of `shards/`."""
    return all(sizes.get(item.final_key) == item.size for item in record.objects)


def published_sizes(store: Store) -> dict[str, int]:
    """Key -> bytes of everything below `shards/`, from one listing."""
    return {item.key: item.size for item in store.list(SHARDS)}


def read_object(store: Store, item: CommittedObject) -> bytes:
    """A committed object's bytes, wherever it lies now. Raises `StoreError` unless they are the committed ones."""
    try:
        data = store.get(locate(store, item))
    except ObjectMissingError:
        data = store.get(locate(store, item))  # published and swept after we looked
    if hashlib.sha256(data).hexdigest() != item.sha256:
        raise StoreError(
            f"{store.uri}/{item.final_key} does not have the sha256 of its commit: it was changed after the commit; "
            "run `caprl verify`, and restore the object from a backup or a download"
        )
    return data


def locate(store: Store, item: CommittedObject) -> str:
    """The key that holds a committed object now: its final name, or the attempt's if it is not published yet."""
    for key in (item.final_key, item.attempt_key, item.final_key):
        if store.size(key) == item.size:
            return key
    raise StoreError(f"{store.uri}: committed object {item.final_key} is missing; run `caprl verify`")


def sweep(store: Store, records: Iterable[CommitRecord], *, dry_run: bool = False) -> list[str]:
    """Delete every attempt object of the units of these records; returns the keys.

    Only published commits are swept: what a commit still needs stays. An attempt at a committed unit can only lose, so
    its bytes and its log are of no use; attempts at other units keep theirs, because a resume needs the log. What runs
    that died had told their lanes goes once it is a day old.
    """
    sizes = published_sizes(store)
    done = {record.unit: record for record in records if is_published(record, sizes)}
    keys = [item.key for item in store.list(ATTEMPTS) if _unit_of(item.key) in done]
    if not dry_run:
        for unit in {_unit_of(key) for key in keys}:
            if unit is not None:
                _settle(store, done[unit])
    now = store.now()
    keys += [item.key for item in store.list(LANES) if now - item.modified > FORGOTTEN_AFTER]
    if keys and not dry_run:
        store.delete(keys)
    return keys


def sweep_unit(store: Store, unit: Unit) -> None:
    """Delete all attempts at one published unit, the winner's and the losers'."""
    keys = [item.key for item in store.list(unit.attempts_prefix)]
    if keys:
        store.delete(keys)


def _settle(store: Store, record: CommitRecord) -> None:
    """Before anything is swept that these were made of, whoever made them: he may have died before he did it."""
    store.settle([record.unit.commit_key, *(item.final_key for item in record.objects)])


def _unit_of(key: str) -> Unit | None:
    parts = key.split("/")
    return parse_unit(parts[1]) if len(parts) > 2 else None
