"""Where a training run stands, read from its records alone, wherever they lie."""

import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from caprl_core.data.files.paths import safe_parts
from caprl_core.errors import BadInputError, ObjectMissingError
from caprl_core.recipe.load import load_training_recipe
from caprl_core.recipe.models import StorageExecution
from caprl_core.storage.store import Store
from caprl_core.training.arguments import CHECKPOINTS
from caprl_core.training.checkpoints import newest_checkpoint, step_of
from caprl_core.training.curve import HELD_OUT, METRICS
from caprl_core.training.launch import work_folder
from caprl_core.training.mirrored_folder import MANIFEST
from caprl_core.training.page.run_files import read_run
from caprl_core.training.record import PICTURES, RUN, STOPPED
from caprl_core.training.registry import Captioner, find_captioner

_CAPTIONS = "held_out"
_MIRRORED = re.compile(rf"{CHECKPOINTS}/checkpoint-(\d+)/{MANIFEST}")


class Place(NamedTuple):
    """Where the records of a run lie, and where its captioner is registered: local folders or `s3://` prefixes."""

    records: str
    output: str
    storage: StorageExecution


class Standing(NamedTuple):
    """Where a run stands.

    step:        the last one recorded; 0 before the first.
    steps:       all of them; None when the record of the run is not there yet.
    checkpoint:  step of the newest whole checkpoint, where it would go on.
    latest:      the last line of `metrics.jsonl`; empty before the first.
    evaluations: the lines of `held_out.jsonl`.
    stopped:     why it stopped before its last step, if it did.
    captioner:   what is registered, if anything.
    """

    uri: str
    name: str | None
    step: int
    steps: int | None
    checkpoint: int | None
    latest: Mapping[str, Any]
    evaluations: Sequence[Mapping[str, Any]]
    stopped: str | None
    captioner: Captioner | None


def place_of(target: str) -> Place:
    """The place of a run given by its recipe (.yaml) or by where it lies. Raises `BadInputError` for neither."""
    if target.endswith((".yaml", ".yml")):
        recipe = load_training_recipe(target)
        execution, work = recipe.execution, work_folder(recipe)
        records = str(work) if work.is_dir() else execution.output
        place = Place(records, execution.output, execution.storage)
    else:
        place = Place(target, target, StorageExecution())
    if "://" not in place.records and not Path(place.records).expanduser().is_dir():
        raise BadInputError(f"{place.records}: no folder of a training run; `caprl train` makes it")
    return place


def standing(place: Place) -> Standing:
    """Look. Raises `StoreError` when the captioner is not as it was registered."""
    with records_of(place, captions=False) as folder:
        run = read_run(folder)
    recipe = run.about.get("recipe", {})
    latest = run.steps[-1] if run.steps else {}
    return Standing(
        uri=place.output,
        name=run.about.get("name"),
        step=latest.get("step", 0),
        steps=recipe.get("steps") if isinstance(recipe, dict) else None,
        checkpoint=_checkpoint(place),
        latest=latest,
        evaluations=run.evaluations,
        stopped=None if run.stopped is None else f"{run.stopped.get('reason')}: {run.stopped.get('detail')}",
        captioner=_captioner(place),
    )


@contextmanager
def records_of(place: Place, *, captions: bool) -> Iterator[Path]:
    """A local folder with the records of a run: its own, or copies from the store; with what the page shows or not."""
    if "://" not in place.records:
        yield Path(place.records).expanduser()
        return
    store = Store(place.records, place.storage)
    with tempfile.TemporaryDirectory(prefix="caprl-run-") as scratch:
        folder = Path(scratch)
        keys = [RUN, METRICS, HELD_OUT, STOPPED]
        if captions:
            keys += [item.key for name in (_CAPTIONS, PICTURES) for item in store.list(name)]
        for key in keys:
            path = folder.joinpath(*safe_parts(key))
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                path.write_bytes(store.get(key))
            except ObjectMissingError:
                continue
        yield folder


def _checkpoint(place: Place) -> int | None:
    if "://" not in place.records:
        newest = newest_checkpoint(Path(place.records).expanduser() / CHECKPOINTS)
        return None if newest is None else step_of(newest)
    listed = (_MIRRORED.fullmatch(item.key) for item in Store(place.records, place.storage).list(CHECKPOINTS))
    return max((int(match[1]) for match in listed if match), default=None)


def _captioner(place: Place) -> Captioner | None:
    try:
        return find_captioner(place.output, place.storage, contents=False)
    except BadInputError:
        return None
