"""The run folder kept a second time, in a bucket or on another disk, so that losing the machine loses no checkpoint."""

import json
import logging
import re
import shutil
from collections import defaultdict
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from caprl_core.errors import IdentityMismatchError, ObjectMissingError, StoreError
from caprl_core.recipe.identity import differences, identity
from caprl_core.recipe.training import TrainingRecipe
from caprl_core.storage.store import ObjectInfo, Store
from caprl_core.training.arguments import CHECKPOINTS
from caprl_core.training.checkpoints import (
    best_step,
    is_whole,
    kept_steps,
    newest_checkpoint,
    step_of,
    whole_checkpoints,
)
from caprl_core.training.curve import HELD_OUT, METRICS, read_lines
from caprl_core.training.mirrored_folder import (
    MANIFEST,
    DamagedFolderError,
    again,
    fetch_folder,
    push_folder,
    remove_folder,
)
from caprl_core.training.record import PICTURES, RUN, STOPPED

logger = logging.getLogger(__name__)

CAPTIONER = "captioner"
_PAGE = "report.html"
_ROLLOUTS, _CAPTIONS = "rollouts", "held_out"
_CAPTIONS_FILE = re.compile(rf"{_CAPTIONS}/step-\d+\.parquet")
_SETS = "questions", "held_out"
"""The entries of `run.json` that say what the run learns from and is judged by."""
_RESTORING = "restoring"
"""Beside the checkpoints, not among them: the trainer counts whatever is called `checkpoint-…` there."""

Stamp = tuple[int, int]
"""Size in bytes and time of the last change in ns: another one means another content."""


class Mirror:
    """The mirror of the run in `work`, below `execution.output`, with the same names. For one process at a time.

    A checkpoint there counts only with its manifest, which is written last; the curves are put before it, so they
    always reach as far. What cannot be put is warned about and put with the next push: training goes on without its
    mirror for a while.
    """

    def __init__(self, recipe: TrainingRecipe, work: Path) -> None:
        self._recipe = recipe
        self._work = work
        self._store = Store(recipe.execution.output, recipe.execution.storage)
        self._pushed: dict[str, Stamp] = {}

    def restore(self) -> None:
        """Bring down what the mirror is ahead of the work folder: its newest checkpoint that proves undamaged, the best
        one, and the records. To be called before anything is pushed.

        Raises `IdentityMismatchError` when the mirror is that of another run, `StoreError` when it cannot be read:
        beginning without looking could fork the run.
        """
        shutil.rmtree(self._work / _RESTORING, ignore_errors=True)
        again(self._restore)
        shutil.rmtree(self._work / _RESTORING, ignore_errors=True)

    def push_checkpoint(self, path: Path, *, last: bool = False) -> None:
        """Put a whole checkpoint, those that could not be put before, and the records; delete what is too old.

        A failure of the store is only warned about, unless this is the `last` push.
        """

        def push() -> None:
            self._push_checkpoint(path)
            self._push_missing()
            self._remove_old()

        self._tried(f"checkpoint {step_of(path)}", push, last)

    def push_records(self, *, last: bool = False) -> None:
        """Put the records and curves that have changed, and each file of captions and pictures once.

        A failure of the store is only warned about, unless this is the `last` push.
        """
        self._tried("the records", self._push_records, last)

    def push_captioner(self, folder: Path) -> None:
        """Put the exported captioner, after everything else that is not there yet. Raises `StoreError`."""

        def push() -> None:
            self._push_missing()
            self._push_records()
            push_folder(self._store, CAPTIONER, folder)

        again(push)

    # Putting.

    def _tried(self, what: str, push: Callable[[], None], last: bool) -> None:
        if last:
            again(push)
            return
        try:
            push()
        except StoreError as error:
            logger.warning("%s could not be put into the mirror, the next push tries again: %s", what, error)

    def _push_checkpoint(self, path: Path) -> None:
        # A checkpoint counts from the moment its manifest is there: by then the curves must reach its step.
        self._push_records()
        push_folder(self._store, f"{CHECKPOINTS}/{path.name}", path)

    def _push_missing(self) -> None:
        there, here = self._whole(), whole_checkpoints(self._work / CHECKPOINTS)
        for step in sorted(self._kept({*there, *here}).difference(there)):
            self._push_checkpoint(here[step])

    def _push_records(self) -> None:
        found = [self._work / name for name in (RUN, METRICS, HELD_OUT, STOPPED, _PAGE)]
        for name, suffix in ((_ROLLOUTS, ".parquet"), (_CAPTIONS, ".parquet"), (PICTURES, ".png")):
            found += sorted((self._work / name).glob(f"*{suffix}"))
        for path in found:
            if not path.is_file():
                continue
            key, stamp = path.relative_to(self._work).as_posix(), _stamp(path)
            if self._pushed.get(key) != stamp:
                self._store.put_file(key, path)
                self._pushed[key] = stamp
        if not (self._work / STOPPED).exists():
            self._store.delete([STOPPED])

    def _remove_old(self) -> None:
        """What is not to be kept, and what was put half."""
        kept = self._kept(self._whole())
        for step, listed in self._listed().items():
            if step not in kept:
                remove_folder(self._store, listed)

    def _kept(self, steps: Collection[int]) -> set[int]:
        """As in the work folder: the latest, as many as the recipe says, and the best."""
        return kept_steps(steps, read_lines(self._work / HELD_OUT), self._recipe.execution.checkpoints_kept)

    # What is there.

    def _listed(self) -> dict[int, list[ObjectInfo]]:
        """The objects of each mirrored checkpoint, whole or not, by step."""
        found: dict[int, list[ObjectInfo]] = defaultdict(list)
        for item in self._store.list(CHECKPOINTS):
            try:
                found[step_of(Path(item.key.split("/")[1]))].append(item)
            except ValueError:
                continue  # not ours
        return found

    def _whole(self) -> set[int]:
        """Steps of the mirrored checkpoints that have their manifest."""
        return {
            step
            for step, listed in self._listed().items()
            if f"{CHECKPOINTS}/checkpoint-{step}/{MANIFEST}" in {item.key for item in listed}
        }

    def _remember_what_is_there(self) -> None:
        """Files that are in the mirror with their size need not be put again, unless they are written again."""
        for name in (_ROLLOUTS, _CAPTIONS, PICTURES):
            for item in self._store.list(name):
                path = self._work / item.key
                if path.is_file() and path.stat().st_size == item.size:
                    self._pushed[item.key] = _stamp(path)

    def _refuse_another_run(self) -> None:
        """Takes over `run.json` where the work folder has none, so that the questions are compared as on a resume."""
        try:
            theirs = _run_record(self._store.get(RUN))
        except ObjectMissingError:
            return
        except ValueError as error:
            raise StoreError(f"{self._store.uri}/{RUN} is not the record of a run: {error}") from error
        found = differences(identity(self._recipe), theirs["recipe"])
        local = self._work / RUN
        if local.exists():
            ours = _run_record(local.read_bytes())
            found += differences(_digests(ours), _digests(theirs))
        if found:
            raise IdentityMismatchError(
                f"{self._store.uri} holds a run of another recipe or other questions; name another execution.output, "
                "or go back: " + "; ".join(map(str, found))
            )
        if not local.exists():
            self._bring(RUN)

    # Bringing down.

    def _restore(self) -> None:
        self._refuse_another_run()
        self._remember_what_is_there()
        whole = self._whole()
        local = newest_checkpoint(self._work / CHECKPOINTS)
        ahead = [step for step in sorted(whole, reverse=True) if local is None or step > step_of(local)]
        newest = next((step for step in ahead if self._fetch(step)), None)
        if newest is None:
            return
        # The newest checkpoint takes its place last: until then a kill leaves a folder that is restored once more.
        for name in (METRICS, HELD_OUT, STOPPED):
            self._bring(name)
        for item in list(self._store.list(_CAPTIONS)):
            if _CAPTIONS_FILE.fullmatch(item.key) and not (self._work / item.key).exists():
                self._bring(item.key)
        if self._recipe.evaluation.export == "best":
            best = best_step(read_lines(self._work / HELD_OUT), [step for step in whole if step <= newest])
            if best is not None and best != newest and not is_whole(self._checkpoint(best)) and self._fetch(best):
                self._place(best)
        self._place(newest)
        logger.info("checkpoint %d is restored from %s", newest, self._store.uri)

    def _fetch(self, step: int) -> bool:
        """Whether the mirrored checkpoint is now, verified, in the folder of those being restored."""
        target = self._work / _RESTORING / f"checkpoint-{step}"
        try:
            if not target.exists():  # fetched whole by an earlier try
                fetch_folder(self._store, f"{CHECKPOINTS}/{target.name}", target)
        except DamagedFolderError as error:
            logger.warning("the mirrored checkpoint %d is passed over: %s", step, error)
            return False
        if not is_whole(target):
            logger.warning("the mirrored checkpoint %d is passed over: it is none of the trainer's", step)
            return False
        return True

    def _place(self, step: int) -> None:
        target = self._checkpoint(step)
        if target.exists():
            shutil.rmtree(target)  # half-written, or it would not have been fetched
        target.parent.mkdir(parents=True, exist_ok=True)
        (self._work / _RESTORING / target.name).rename(target)

    def _bring(self, key: str) -> None:
        """A record that is small enough for memory; nothing if the mirror has none."""
        try:
            data = self._store.get(key)
        except ObjectMissingError:
            return
        target = self._work / key
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_suffix(".partial")
        partial.write_bytes(data)
        partial.replace(target)
        self._pushed[key] = _stamp(target)

    def _checkpoint(self, step: int) -> Path:
        return self._work / CHECKPOINTS / f"checkpoint-{step}"


def _run_record(data: bytes) -> dict[str, Any]:
    """`run.json` with what is compared. Raises `ValueError`."""
    value = json.loads(data)
    if not isinstance(value, dict) or not all(isinstance(value.get(name), dict) for name in ("recipe", *_SETS)):
        raise ValueError("it names no recipe and questions")
    return value


def _digests(record: dict[str, Any]) -> dict[str, Any]:
    return {name: record[name].get("sha256") for name in _SETS}


def _stamp(path: Path) -> Stamp:
    found = path.stat()
    return found.st_size, found.st_mtime_ns
