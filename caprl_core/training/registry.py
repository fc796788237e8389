"""The register of a run's captioner: what it consists of and where it comes from, written once, when all else is done.

Later stages find a captioner by the address of its run and get it only as it was registered.
"""

import datetime as dt
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from caprl_core.errors import BadInputError, IdentityMismatchError, ObjectExistsError, ObjectMissingError, StoreError
from caprl_core.recipe.identity import differences, fingerprint, identity
from caprl_core.recipe.models import ImageRecipe, PromptRecipe, StorageExecution
from caprl_core.recipe.training import TrainingRecipe
from caprl_core.storage.store import Store
from caprl_core.training.curve import HELD_OUT, read_lines
from caprl_core.training.exporting import CAPTIONER
from caprl_core.training.mirrored_folder import MANIFEST, MirroredFile, fetch_folder
from caprl_core.training.record import RUN

REGISTERED = "registered.json"
_SHOWN = 5


class SetDigest(BaseModel):
    """A set of questions with their pictures, by content."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    images: int
    questions: int
    sha256: str


class Start(BaseModel):
    """The model the captioner began as."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    name: str
    revision: str | None


class Registered(BaseModel):
    """A captioner: its files, what to ask it, and its lineage."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: int = 1
    name: str
    prompt: PromptRecipe = Field(description="What it was taught to answer.")
    image: ImageRecipe = Field(description="How its pictures were prepared.")
    step: int = Field(description="Step of the run whose weights it has.")
    held_out_before: float | None = Field(description="Held-out reward of its start.")
    held_out_reward: float | None = Field(description="Its own.")
    fingerprint: str = Field(description="Of the training recipe.")
    recipe: dict[str, Any] = Field(description="Identity of the training recipe.")
    policy: Start
    questions: SetDigest
    held_out: SetDigest
    versions: dict[str, str | None] = Field(description="Package -> version it was trained with.")
    files: tuple[MirroredFile, ...] = Field(description="Every file of `captioner/`, sorted by name.")
    registered: str = Field(description="When, ISO 8601, UTC.")


class Captioner(NamedTuple):
    """A registered captioner and the store it lies in, below `captioner/`."""

    store: Store
    record: Registered

    @property
    def uri(self) -> str:
        """Of its folder."""
        return f"{self.store.uri}/{CAPTIONER}"


def register_captioner(recipe: TrainingRecipe, work: Path, step: int) -> Captioner:
    """Register what the run in `work` exported from `step`; the same again is no change.

    Raises `IdentityMismatchError`, naming what differs, when the run is another recipe's or another captioner is
    registered under its output; `BadInputError` when there is nothing to register; `StoreError` when the output does
    not have the files.
    """
    store = Store(recipe.execution.output, recipe.execution.storage)
    record = _record(recipe, work, step)
    _insist(store, record.files, contents=False)
    try:
        store.create(REGISTERED, record.model_dump_json(indent=1).encode() + b"\n")
    except ObjectExistsError:
        known = _read(store)
        if found := differences(_lasting(record), _lasting(known)):
            raise IdentityMismatchError(
                f"{store.uri} has the captioner {known.name} of step {known.step} registered already, and this is "
                f"another; name another execution.output. What differs: {_some(list(map(str, found)))}"
            ) from None
        record = known
    return Captioner(store, record)


def find_captioner(uri: str, storage: StorageExecution | None = None, *, contents: bool = True) -> Captioner:
    """The captioner registered under the output of its run: a folder or an `s3://` prefix.

    Its files are all there, none besides, with their sizes and, unless `contents` is false, their sha256. Raises
    `BadInputError` when none is registered there, `StoreError` when it is not as it was registered.
    """
    if "://" not in uri.removeprefix("file://") and not Path(uri.removeprefix("file://")).expanduser().is_dir():
        raise BadInputError(f"{uri}: no such folder")  # opening a local store makes its folder
    store = Store(uri, storage)
    try:
        record = _read(store)
    except ObjectMissingError as error:
        raise BadInputError(
            f"{store.uri}: no captioner is registered here (there is no {REGISTERED}); `caprl train` registers it when "
            "training has ended"
        ) from error
    _insist(store, record.files, contents=contents)
    return Captioner(store, record)


def registered_before(recipe: TrainingRecipe) -> Captioner | None:
    """The captioner an earlier run of this recipe registered under its output, by the sizes of its files; or None.

    Raises `IdentityMismatchError` when one of another recipe is registered there, `StoreError` as `find_captioner`.
    """
    store = Store(recipe.execution.output, recipe.execution.storage)
    try:
        record = _read(store)
    except ObjectMissingError:
        return None
    if found := differences(identity(recipe), record.recipe):
        raise IdentityMismatchError(
            f"{store.uri} has the captioner {record.name} of another recipe registered; name another execution.output, "
            f"or go back: {_some(list(map(str, found)))}"
        )
    _insist(store, record.files, contents=False)
    return Captioner(store, record)


def local_captioner(captioner: Captioner, folder: Path) -> Path:
    """A local folder with the captioner, verified: its own where it lies on this machine, else a copy in `folder`.

    A copy that is there already is used again. Raises `BadInputError` when `folder` holds something else.
    """
    if captioner.store.is_local:
        return Path(captioner.store.uri) / CAPTIONER
    if not folder.exists():
        fetch_folder(captioner.store, CAPTIONER, folder)
    if problems := _problems(_hashed(folder), captioner.record.files, contents=True):
        raise BadInputError(f"{folder} does not hold {captioner.uri}; name another folder: {_some(problems)}")
    return folder


def _record(recipe: TrainingRecipe, work: Path, step: int) -> Registered:
    run, folder = work / RUN, work / CAPTIONER
    try:
        about = json.loads(run.read_bytes())
        if found := differences(identity(recipe), about["recipe"]):
            raise IdentityMismatchError(f"{work} is the run of another recipe: {_some(list(map(str, found)))}")
        rewards = {line["step"]: line.get("reward") for line in read_lines(work / HELD_OUT)}
        return Registered(
            name=recipe.name,
            prompt=recipe.policy.prompt,
            image=recipe.policy.image,
            step=step,
            held_out_before=rewards.get(0),
            held_out_reward=rewards.get(step),
            fingerprint=fingerprint(identity(recipe)),
            recipe=identity(recipe),
            policy=about["policy"],
            questions=about["questions"],
            held_out=about["held_out"],
            versions=about["versions"],
            files=_hashed(folder),
            registered=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        )
    except (OSError, ValueError, KeyError) as error:
        raise BadInputError(f"{work} has no captioner to register yet: {type(error).__name__}: {error}") from error


def _hashed(folder: Path) -> tuple[MirroredFile, ...]:
    """Every file of a local folder but a mirror's manifest. Raises `ValueError` where there is none."""
    found = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST):
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        found.append(MirroredFile(name=path.relative_to(folder).as_posix(), size=path.stat().st_size, sha256=digest))
    if not found:
        raise ValueError(f"there are no files in {folder}")
    return tuple(found)


def _insist(store: Store, files: Sequence[MirroredFile], *, contents: bool) -> None:
    """Raises `StoreError` unless exactly these files are there."""
    there = {item.key.removeprefix(f"{CAPTIONER}/"): item.size for item in store.list(CAPTIONER)}
    there.pop(MANIFEST, None)
    found = [MirroredFile(name=name, size=size, sha256="") for name, size in there.items()]
    problems = _problems(found, files, contents=False)
    if contents and not problems:
        problems = [f"{file.name} has another sha256" for file in files if _digest(store, file.name) != file.sha256]
    if problems:
        raise StoreError(
            f"{store.uri}/{CAPTIONER} is not the captioner that was registered: {_some(problems)}. Restore it from a "
            f"copy, or delete {REGISTERED} and run `caprl train` again, which exports it anew from its checkpoint"
        )


def _problems(found: Sequence[MirroredFile], wanted: Sequence[MirroredFile], *, contents: bool) -> list[str]:
    """In what the files found are not those wanted."""
    there, named = {file.name: file for file in found}, {file.name for file in wanted}
    problems = [f"{name} does not belong to it" for name in sorted(there.keys() - named)]
    for file in wanted:
        if (have := there.get(file.name)) is None:
            problems.append(f"{file.name} is missing")
        elif have.size != file.size:
            problems.append(f"{file.name} has {have.size} bytes instead of {file.size}")
        elif contents and have.sha256 != file.sha256:
            problems.append(f"{file.name} has another sha256")
    return problems


def _digest(store: Store, name: str) -> str:
    digest = hashlib.sha256()
    for chunk in store.stream(f"{CAPTIONER}/{name}"):
        digest.update(chunk)
    return digest.hexdigest()


def _read(store: Store) -> Registered:
    try:
        return Registered.model_validate_json(store.get(REGISTERED))
    except ValidationError as error:
        raise StoreError(f"{store.uri}/{REGISTERED} is no record of a captioner: {error.errors()[0]['msg']}") from error


def _lasting(record: Registered) -> dict[str, Any]:
    """What must be equal: everything but the time; files by name, so that a difference is told by it."""
    fields: Mapping[str, Any] = record.model_dump(mode="json", exclude={"registered"})
    return {**fields, "files": {file.name: [file.size, file.sha256] for file in record.files}}


def _some(lines: list[str]) -> str:
    return "; ".join(lines[:_SHOWN]) + (f" and {len(lines) - _SHOWN} more" if len(lines) > _SHOWN else "")
