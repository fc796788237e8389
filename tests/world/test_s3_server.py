"""The embedded S3 server keeps the one promise that the commit protocol rests on."""

import contextlib
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

from caprl_core.errors import ObjectExistsError
from caprl_core.storage.store import Store


def test_of_many_creates_at_once_one_wins_every_time(bucket: str) -> None:
    stores = [Store(f"s3://{bucket}") for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        for race in range(60):
            start = Barrier(8)

            def create(store: Store, key: str = f"race/{race}", start: Barrier = start) -> bool:
                start.wait()
                with contextlib.suppress(ObjectExistsError):
                    store.create(key, b"x" * 5000)
                    return True
                return False

            assert sum(pool.map(create, stores)) == 1
