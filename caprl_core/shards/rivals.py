"""Whether another attempt has committed a unit while this one still asks for its samples."""

import asyncio
import contextlib

from caprl_core.errors import StoreError
from caprl_core.storage.layout import Unit
from caprl_core.storage.store import Store

LOOK_S = 20.0
"""Seconds between looks: one small request each."""


class CommittedElsewhereError(Exception):
    """Another attempt won."""


async def watch_for_a_commit(store: Store, unit: Unit) -> None:
    """Runs until it is cancelled, or raises `CommittedElsewhereError` once the unit is committed: who was cut off, or
    shares the unit at the end of a dataset, works no longer in vain."""
    while True:
        await asyncio.sleep(LOOK_S)
        # A store that is away shows itself to the log soon enough.
        with contextlib.suppress(StoreError):
            if await asyncio.to_thread(store.size, unit.commit_key) is not None:
                raise CommittedElsewhereError
