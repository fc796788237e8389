"""Trains a model from nothing into a folder, beside what is needed to judge it: seed, steps, seconds, figures."""

import json
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers

from caprl_core.world.model_folders import FIGURES, committed_model
from caprl_core.world.training import answerer, captioner, reader, vision, writer
from caprl_core.world.training.evaluating import (
    Figures,
    evaluate_answerer,
    evaluate_captioner,
    evaluate_reader,
)
from caprl_core.world.training.evaluating_writer import evaluate_writer
from caprl_core.world.training.saving import load_model, save_model

EVALUATED = 1000
"""Held-out scenes that the final figures are from: a standard error of 0.7 points at 0.95."""
EVALUATION_SEED = 4242
LOG_EVERY = 25
_SMOOTH = 0.96  # of the running means that are logged

STEPS = {
    "captioner": captioner.STEPS,
    "reader": reader.STEPS,
    "answerer": answerer.STEPS,
    "writer": writer.STEPS,
}
BEGINS_AS: dict[str, tuple[str, ...]] = {
    "captioner": (),
    "reader": (),
    "answerer": ("reader", "captioner"),
    "writer": ("answerer",),
}
"""Models that another starts from."""
EVALUATORS: dict[str, Callable[[Any, int, int], dict[str, Figures]]] = {
    "captioner": evaluate_captioner,
    "reader": evaluate_reader,
    "answerer": evaluate_answerer,
    "writer": evaluate_writer,
}


def rebuild(
    name: str,
    folder: Path,
    *,
    seed: int = 0,
    steps: int | None = None,
    evaluated: int = EVALUATED,
    tell: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Train `name` on one thread and write it to `folder/name` with its figures, which are returned.

    A model that begins as others takes those in `folder`, or else the committed ones. Raises `KeyError` for a model
    there is none of, `FileNotFoundError` for one without those it begins as.
    """
    steps = STEPS[name] if steps is None else steps
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the order of sums, and so the weights, would depend on the threads
    started = time.process_time()
    try:
        model = _trained(name, folder, seed, steps, _Log(name, steps, tell) if tell is not None else None)
        seconds = time.process_time() - started
        target = save_model(model, folder / name)
        # What is judged is what was written, in half precision.
        held_out = EVALUATORS[name](load_model(target).eval(), EVALUATION_SEED, evaluated)
    finally:
        torch.set_num_threads(threads)
    figures = {
        "model": name,
        "seed": seed,
        "steps": steps,
        "cpu_seconds": round(seconds),
        "evaluated": evaluated,
        "evaluation_seed": EVALUATION_SEED,
        "held_out": held_out,
        "torch": torch.__version__.partition("+")[0],
        "transformers": transformers.__version__,
        "machine": platform.machine(),
    }
    (target / FIGURES).write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    return figures


def _trained(name: str, folder: Path, seed: int, steps: int, report: reader.Report | None) -> Any:
    parts = [load_model(_built(part, folder)) for part in BEGINS_AS[name]]
    if name == "captioner":
        return captioner.train_captioner(seed, steps, min(vision.STEPS, steps), report)
    if name == "reader":
        return reader.train_reader(seed, steps, report)
    if name == "writer":
        return writer.train_writer(seed, parts[0], steps, report)
    return answerer.train_answerer(seed, parts[0], parts[1], steps, report)


def _built(name: str, folder: Path) -> Path:
    own = folder / name
    return own if (own / "model.safetensors").is_file() else committed_model(name)


class _Log:
    """Tells running means now and then."""

    def __init__(self, name: str, steps: int, tell: Callable[[str], None]) -> None:
        self._name, self._steps, self._tell = name, steps, tell
        self._means: dict[str, float] = {}

    def __call__(self, step: int, values: dict[str, float]) -> None:
        if values.keys() != self._means.keys():  # another phase begins
            self._means = dict(values)
        for key, value in values.items():
            self._means[key] = _SMOOTH * self._means[key] + (1 - _SMOOTH) * value
        if step % LOG_EVERY == 0:
            means = ", ".join(f"{key} {value:.4g}" for key, value in self._means.items())
            self._tell(f"{self._name} {step}/{self._steps}: {means}")
