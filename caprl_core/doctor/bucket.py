"""The output of a recipe, tried with scratch objects: rights, conditional create under a race, multipart, copy."""

import contextlib
import datetime as dt
import secrets
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from caprl_core.doctor.finding import Finding, missing, note, ok
from caprl_core.errors import BadInputError, CaprlError, ObjectExistsError, StoreError
from caprl_core.recipe.models import CaptionRecipe
from caprl_core.storage.store import Store

RACES = 5
RACERS = 8
"""Creates of one key at once. A store that checks before it writes, instead of while, lets two of them win."""
PART_BYTES = 16 * 2**20
"""Size of a part in `Store.put_file`; one byte more makes two parts."""
SKEW_S = 60.0
"""The clocks may differ by this much: `caprl status` calls an attempt running while its log is at most 120 s old."""
IMPATIENT = {"retries": 2, "retry_timeout_s": 15.0, "timeout_s": 30.0}
"""A run waits minutes for a store to come back; somebody who asks what is wrong should not."""
HINT = "check execution.output, AWS_ENDPOINT_URL, AWS_PROFILE or AWS_ACCESS_KEY_ID, and the bucket's policy"


def examine_output(recipe: CaptionRecipe) -> Iterator[Finding]:
    """Try everything the commit protocol rests on, below a scratch prefix that is removed again."""
    uri = recipe.execution.output
    try:
        store = Store(uri, recipe.execution.storage.model_copy(update=IMPATIENT))
        present = next(iter(store.list("commits")), None)
    except (StoreError, BadInputError) as error:
        yield missing("output", str(error), HINT)
        return
    yield ok("output", f"{store.uri} answers" + (", holds commits" if present else ""))
    prefix = f"doctor-{secrets.token_hex(8)}"
    try:
        yield from _tried(store, prefix)
    except CaprlError as error:
        yield missing(
            "output rights", str(error), "allow GetObject, PutObject, DeleteObject and ListBucket below the prefix"
        )
    finally:
        yield from _cleaned(store, prefix)


def _tried(store: Store, prefix: str) -> Iterator[Finding]:
    store.put(f"{prefix}/a", b"written")
    yield _clock(store, prefix)
    if store.get(f"{prefix}/a") != b"written" or store.read_range(f"{prefix}/a", 1, 3) != b"rit":
        yield missing("output reads", "an object read back has other bytes", "do not use this store")
        return
    store.copy(f"{prefix}/a", f"{prefix}/b")
    listed = sorted(item.key for item in store.list(prefix))
    if listed != [f"{prefix}/a", f"{prefix}/b"]:
        yield missing("output lists", f"a fresh listing shows {listed}", "use a store with consistent listings")
        return
    yield ok("output rights", "write, read, range, copy, list")
    yield _conditional_create(store, prefix)
    yield _multipart(store, prefix)


def _clock(store: Store, prefix: str) -> Finding:
    modified = next(iter(store.list(prefix))).modified
    skew = (dt.datetime.now(dt.UTC) - modified).total_seconds()
    if abs(skew) > SKEW_S:
        return note(
            "clock", f"{skew:+.0f} s against the store's", "set this machine's clock; `caprl status` compares them"
        )
    return ok("clock", f"{skew:+.0f} s against the store's")


def _conditional_create(store: Store, prefix: str) -> Finding:
    remedy = "use a store whose single PUT honours `If-None-Match: *` (AWS S3, Ceph RGW, MinIO)"
    for race in range(RACES):
        key = f"{prefix}/race-{race}"
        start = threading.Barrier(RACERS)

        def create(racer: int, key: str = key, start: threading.Barrier = start) -> bool:
            start.wait()
            try:
                store.create(key, b"%d" % racer)
            except ObjectExistsError:
                return False
            return True

        with ThreadPoolExecutor(RACERS) as pool:
            won = [racer for racer, result in enumerate(pool.map(create, range(RACERS))) if result]
        if len(won) != 1 or store.get(key) != b"%d" % won[0]:
            return missing("conditional create", f"{len(won)} of {RACERS} racing creates won", remedy)
        if create(RACERS, key, threading.Barrier(1)):
            return missing("conditional create", "an existing object was replaced", remedy)
    return ok("conditional create", f"one winner in each of {RACES} races of {RACERS}")


def _multipart(store: Store, prefix: str) -> Finding:
    with tempfile.NamedTemporaryFile(prefix="caprl-doctor-") as file:
        file.truncate(PART_BYTES + 1)
        store.put_file(f"{prefix}/large", Path(file.name), multipart_above=PART_BYTES)
    if store.size(f"{prefix}/large") != PART_BYTES + 1:
        return missing("multipart upload", "the object has another size than the file", "do not use this store")
    return ok("multipart upload", "two parts")


def _cleaned(store: Store, prefix: str) -> Iterator[Finding]:
    try:
        store.delete([item.key for item in store.list(prefix)])
        left = [item.key for item in store.list(prefix)]
    except CaprlError as error:
        yield missing("output deletes", str(error), f"allow DeleteObject, and remove {store.uri}/{prefix} by hand")
        return
    if left:
        yield missing("output deletes", f"{len(left)} deleted objects are still listed", f"remove {store.uri}/{prefix}")
    else:
        yield ok("output deletes", "the scratch objects are gone")
    if store.is_local:
        with contextlib.suppress(OSError):
            (Path(store.uri) / prefix).rmdir()
