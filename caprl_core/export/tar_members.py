"""The pictures of a committed shard, read from its tar in one forward pass."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, TypeVar, cast

from caprl_core.data.files.tars import tar_members
from caprl_core.errors import BadInputError, StoreError
from caprl_core.storage.commit import CommitRecord
from caprl_core.storage.publish import locate
from caprl_core.storage.store import Store

READ_BYTES = 8 * 2**20
"""Bytes of one request: at 30 ms a request and 1 GB/s a thread still spends most of its time on bytes."""
MOST_IMAGE_BYTES = 2**30
"""The stage that kept an image has applied the recipe's own limit; this one keeps a damaged tar from filling memory."""

Wanted = TypeVar("Wanted")


def read_members(
    store: Store, record: CommitRecord, wanted: Mapping[str, Wanted], copy: Path | None = None
) -> Iterator[tuple[Wanted, bytes]]:
    """Yield (value, bytes) of every member named in `wanted`, in the tar's order; others are passed over unread.

    `copy` is a local file with the tar's content to read instead of the store. Raises `StoreError` when the tar is
    gone, damaged, or lacks one of them. Digests are the caller's to check.
    """
    item = record.object("tar")
    where = f"{store.uri}/{item.final_key}"
    left = dict(wanted)
    with _open(store, record, copy) as stream:
        try:
            for member in tar_members(stream, where, item.size):
                if member.name in left:
                    if member.size > MOST_IMAGE_BYTES:
                        raise StoreError(f"{where}: member {member.name} of {member.size} bytes is no image")
                    stream.seek(member.offset)
                    yield left.pop(member.name), stream.read(member.size)
                    if not left:
                        return
        except BadInputError as error:
            raise StoreError(f"{error}; it was changed after its commit, run `caprl verify`") from error
    if left:
        raise StoreError(f"{where}: member {next(iter(left))} is not in it: run `caprl verify`")


def _open(store: Store, record: CommitRecord, copy: Path | None) -> BinaryIO:
    if copy is not None:
        return copy.open("rb")
    key = locate(store, record.object("tar"))
    if store.is_local:
        return (Path(store.uri) / key).open("rb")
    return cast(BinaryIO, store.open(key, READ_BYTES))
