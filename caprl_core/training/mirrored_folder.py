"""A folder kept in a store as one thing: its manifest, with the size and sha256 of every file, is written last."""

import hashlib
import shutil
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from caprl_core.data.files.paths import UnsafePathError, safe_parts
from caprl_core.data.files.retrying import retried
from caprl_core.errors import ObjectMissingError, StoreError
from caprl_core.storage.store import ObjectInfo, Store

MANIFEST = "whole.json"
"""Without it the folder does not count, whatever else of it is there."""

RETRIES, BUDGET_S = 4, 300.0
"""The seconds are those after which nothing is tried again: the other training processes are waiting."""


class DamagedFolderError(StoreError):
    """What the store holds of a folder is not what was put there."""


class MirroredFile(BaseModel):
    """A file by its name below the folder, with `/` between parts."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    size: int = Field(ge=0, description="Bytes.")
    sha256: str


class Manifest(BaseModel):
    """Every file of a folder, sorted by name."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    files: tuple[MirroredFile, ...]


def again(call: Callable[[], None]) -> None:
    """Do it, and once more when the store fails, up to `RETRIES` times; `call` must be repeatable.

    obstore repeats requests, but not one whose reply ends in its middle: that is seen once the body is read.
    """
    retried(call, passing=_is_passing, retries=RETRIES, budget_s=BUDGET_S)


def push_folder(store: Store, prefix: str, folder: Path) -> None:
    """Put every file of a local folder below `prefix`, in the place of what was there.

    While this lasts, and after it failed, the folder does not count. Raises `StoreError`.
    """
    marker = f"{prefix}/{MANIFEST}"
    before = [item.key for item in store.list(prefix)]
    if marker in before:
        store.delete([marker])
    manifest = _manifest(folder)
    for item in manifest.files:
        store.put_file(f"{prefix}/{item.name}", folder / item.name)
    there = {item.key: item.size for item in store.list(prefix)}
    for item in manifest.files:
        if there.get(f"{prefix}/{item.name}") != item.size:
            raise StoreError(f"{store.uri}/{prefix}/{item.name} was put, but is not there with its {item.size} bytes")
    if stale := sorted(set(there) - {f"{prefix}/{item.name}" for item in manifest.files}):
        store.delete(stale)
    store.put(marker, manifest.model_dump_json(indent=1).encode())


def fetch_folder(store: Store, prefix: str, folder: Path) -> None:
    """Bring a folder down into the new local folder `folder`; nothing but verified bytes is left there.

    Raises `DamagedFolderError` when what is there does not fit its manifest, or has none; other `StoreError`s when the
    store fails.
    """
    manifest = _read_manifest(store, prefix)
    there = {item.key: item.size for item in store.list(prefix)}
    for item in manifest.files:  # before the first byte is read: checkpoints are large
        if there.get(f"{prefix}/{item.name}") != item.size:
            raise DamagedFolderError(f"{store.uri}/{prefix}/{item.name} is missing or not of its {item.size} bytes")
    folder.mkdir(parents=True)
    try:
        for item in manifest.files:
            again(partial(_fetch, store, prefix, item, folder))
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def remove_folder(store: Store, listed: Sequence[ObjectInfo]) -> None:
    """Delete the listed objects of one folder, its manifest first: what is left by a kill does not count."""
    keys = sorted((item.key for item in listed), key=lambda key: (not key.endswith(f"/{MANIFEST}"), key))
    for some in (keys[:1], keys[1:]):
        if some:
            store.delete(some)


def _is_passing(error: Exception) -> bool:
    return isinstance(error, StoreError) and not isinstance(error, ObjectMissingError | DamagedFolderError)


def _manifest(folder: Path) -> Manifest:
    found = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        name = path.relative_to(folder).as_posix()
        found.append(MirroredFile(name=name, size=path.stat().st_size, sha256=digest))
    return Manifest(files=tuple(found))


def _read_manifest(store: Store, prefix: str) -> Manifest:
    try:
        manifest = Manifest.model_validate_json(store.get(f"{prefix}/{MANIFEST}"))
        for item in manifest.files:
            if "/".join(safe_parts(item.name)) != item.name:
                raise UnsafePathError(f"{item.name!r} is no plain path")
    except ObjectMissingError as error:
        raise DamagedFolderError(f"{store.uri}/{prefix} has no {MANIFEST}: it was not put there whole") from error
    except (ValidationError, UnsafePathError) as error:
        detail = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error
        raise DamagedFolderError(f"{store.uri}/{prefix}/{MANIFEST} is no manifest of a folder: {detail}") from error
    return manifest


def _fetch(store: Store, prefix: str, item: MirroredFile, folder: Path) -> None:
    target = folder / item.name
    target.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    key = f"{prefix}/{item.name}"
    try:
        with target.open("wb") as file:
            for chunk in store.stream(key):
                digest.update(chunk)
                file.write(chunk)
    except ObjectMissingError as error:
        raise DamagedFolderError(f"{store.uri}/{key} is gone") from error
    if digest.hexdigest() != item.sha256:
        raise DamagedFolderError(f"{store.uri}/{key} does not have the sha256 of its manifest")
