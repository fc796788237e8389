"""What a run is, written down at its start: recipe, questions, start, versions; and the pictures the page shows."""

import hashlib
import importlib.metadata
import json
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pyarrow as pa

from caprl_core.data.images import prepare_image
from caprl_core.errors import IdentityMismatchError
from caprl_core.recipe.identity import differences, fingerprint, identity
from caprl_core.recipe.training import TrainingRecipe
from caprl_core.training.policy import policy_source
from caprl_core.training.questions import TaughtSet

RUN, STOPPED, PICTURES = "run.json", "stopped.json", "pictures"
_PACKAGES = ("caprl-factory", "torch", "transformers", "trl", "accelerate", "peft")


class Stop(NamedTuple):
    """Why a run ended before its last step, and the figures."""

    reason: Literal["signal", "collapse"]
    detail: str


def begin_record(recipe: TrainingRecipe, work: Path, train: TaughtSet, held_out: TaughtSet, processes: int) -> None:
    """Write `run.json`, or check that the one there is of this recipe and these questions.

    Raises `IdentityMismatchError` naming what differs.
    """
    ours = {"recipe": identity(recipe), "questions": train.digest, "held_out": held_out.digest}
    path = work / RUN
    if path.exists():
        known = json.loads(path.read_text("utf-8"))
        theirs = {
            "recipe": known["recipe"],
            "questions": known["questions"]["sha256"],
            "held_out": known["held_out"]["sha256"],
        }
        if found := differences(ours, theirs):
            raise IdentityMismatchError(
                f"{work} holds a run of another recipe or other questions; name another execution.output, or go back: "
                + "; ".join(map(str, found))
            )
    record: dict[str, Any] = {
        "name": recipe.name,
        "fingerprint": fingerprint(identity(recipe)),
        "recipe": identity(recipe),
        "questions": train.summary(),
        "held_out": held_out.summary(),
        "watched": {key: _file_name(key) for key in _watched(recipe, held_out)},
        "policy": {
            "name": recipe.policy.model.name,
            "revision": recipe.policy.model.revision,
            "path": policy_source(recipe),
        },
        "versions": {name: _version(name) for name in _PACKAGES},
        "processes": processes,
    }
    work.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", "utf-8")
    partial.replace(path)


def write_watched(recipe: TrainingRecipe, work: Path, held_out: TaughtSet) -> None:
    """The pictures whose captions the page shows, as the captioner sees them."""
    wanted = set(_watched(recipe, held_out))
    (work / PICTURES).mkdir(parents=True, exist_ok=True)
    with pa.memory_map(str(held_out.arrow)) as file, pa.ipc.open_stream(file) as stream:
        for batch in stream:
            for key, data in zip(batch.column("key").to_pylist(), batch.column("picture"), strict=True):
                if key in wanted:
                    seen = prepare_image(data.as_py(), recipe.policy.image, "png")
                    (work / PICTURES / _file_name(key)).write_bytes(seen.encoded)


def write_stopped(work: Path, step: int, stopped: Stop | None) -> None:
    """Say beside the run why it stopped before its last step; of one that did not nothing is said."""
    path = work / STOPPED
    if stopped is None:
        path.unlink(missing_ok=True)
    else:
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps({"step": step, **stopped._asdict()}) + "\n", "utf-8")
        partial.replace(path)


def stopped_reason(work: Path) -> str | None:
    """Why an earlier attempt stopped; None if none did."""
    path = work / STOPPED
    return str(json.loads(path.read_text("utf-8"))["reason"]) if path.exists() else None


def _watched(recipe: TrainingRecipe, held_out: TaughtSet) -> list[str]:
    return list(held_out.questions)[: recipe.evaluation.watched]


def _file_name(key: str) -> str:
    """Keys come from data and may look like paths."""
    return f"{hashlib.sha256(key.encode('utf-8', 'surrogatepass')).hexdigest()[:16]}.png"


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
