"""Does it learn? GRPO on the embedded world from the committed warm start, over three seeds, beside a control."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.parquet as pq
import yaml

from bench.measuring import Report, options
from caprl_core.training.curve import HELD_OUT, METRICS, read_lines
from caprl_core.world.judging import CaptionFigures, caption_figures
from caprl_core.world.question_set import drawn_scenes, write_question_set

RECIPE = Path("configs/grpo-world.yaml")
METHOD = """configs/grpo-world.yaml, one process with one thread: from `python -m caprl_core.training` to its end,
model loading, evaluations and export included. 2,048 training scenes and 200 held-out scenes, all true questions.
Held-out captions are greedy. reward: by the training reader, 4 draws a picture; strict: all questions, read by rules,
which no policy can learn to please; true: share of stated facts; grammar: one sentence of the world, no shape named
twice. The exported checkpoint, the one with the best held-out reward by the training reader, is what is shown.
Controls: in training each picture has the questions of another one; its held-out questions are its own. There a
statement still pays more than an abstention, by chance, so that is done once more with a reward corrected for chance
(a wrong answer among four options costs 1/3), beside a run of the picture's own questions with the same correction."""
CORRECTED = {"reward.terms.wrong": -1 / 3}
"""Guessing among four options then earns nothing on average."""
TRAIN, HELD_OUT_PICTURES, HELD_OUT_SEED = 2048, 200, 1


class Run(NamedTuple):
    """One run. reward: of the training reader, before and after; figures: likewise."""

    wall_s: float
    step: int
    reward: tuple[float, float]
    figures: tuple[CaptionFigures, CaptionFigures]
    trained_on: float


def run(folder: Path, sets: Mapping[str, Path], changes: Mapping[str, Any]) -> Run:
    """Train once; `changes` by dotted path."""
    recipe = yaml.safe_load(RECIPE.read_text())
    recipe["questions"] |= {name: str(path) for name, path in sets.items()} | {"pictures": HELD_OUT_PICTURES}
    recipe["reward"]["execution"]["engine"]["model_path"] = "caprl_core/world/weights/reader"
    recipe["execution"] |= {"output": str(folder / "run"), "model_path": "caprl_core/world/weights/captioner"}
    for path, value in changes.items():
        *parents, last = path.split(".")
        place = recipe
        for name in parents:
            place = place[name]
        place[last] = value
    folder.mkdir(parents=True)
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    began = time.monotonic()
    command = [sys.executable, "-m", "caprl_core.training", "--recipe", str(folder / "recipe.yaml")]
    with (folder / "log").open("wb") as log:
        done = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, check=False)
    if done.returncode:
        sys.exit(f"training ended with {done.returncode}:\n" + (folder / "log").read_text()[-4000:])
    wall = time.monotonic() - began
    lines = {line["step"]: line for line in read_lines(folder / "run" / HELD_OUT)}
    best = max(lines, key=lambda step: (lines[step]["reward"], step) if step else (-1.0, 0))
    last_steps = [line["reward"] for line in read_lines(folder / "run" / METRICS)][-10:]
    return Run(
        wall,
        best,
        (lines[0]["reward"], lines[best]["reward"]),
        (figures(folder, 0), figures(folder, best)),
        sum(last_steps) / len(last_steps),
    )


def figures(folder: Path, step: int) -> CaptionFigures:
    """Of the held-out captions after a step."""
    table = pq.read_table(folder / "run" / "held_out" / f"step-{step:06d}.parquet", columns=["key", "caption"])
    captions = dict(zip(table.column("key").to_pylist(), table.column("caption").to_pylist(), strict=True))
    return caption_figures(captions, drawn_scenes("held_out", HELD_OUT_PICTURES, HELD_OUT_SEED))


def shown(report: Report, name: str, one: Run) -> None:
    """The figures of a run."""
    before, after = one.figures
    report.figure(f"{name}: wall time", one.wall_s, "s")
    report.figure(f"{name}: exported step", one.step, "")
    for what, old, new in (
        ("held-out reward", *one.reward),
        ("strict reader", before.strict, after.strict),
        ("true facts", before.true, after.true),
        ("grammar", before.grammatical, after.grammatical),
        ("recall of facts", before.recall, after.recall),
        ("words", before.words, after.words),
    ):
        report.figure(f"{name}: {what}, before", old, "")
        report.figure(f"{name}: {what}, after", new, "")


def main() -> None:
    arguments = options(__doc__).parse_args()
    report = Report("learning", METHOD, quick=arguments.quick, packages=("torch", "transformers", "trl"))
    quick = {"steps": 6, "evaluation.every": 3} if arguments.quick else {}
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        held_out = write_question_set(folder / "held_out.parquet", "held_out", HELD_OUT_PICTURES, HELD_OUT_SEED)
        true = write_question_set(folder / "train.parquet", "train", TRAIN)
        swapped = write_question_set(folder / "swapped.parquet", "train", TRAIN, swapped=True)
        runs = []
        for seed in (0,) if arguments.quick else (0, 1, 2):
            one = run(folder / f"seed-{seed}", {"train": true, "held_out": held_out}, quick | {"seed": seed})
            shown(report, f"seed {seed}", one)
            runs.append(one)
        for name, questions, terms in (
            ("other pictures' questions", swapped, {}),
            ("corrected for chance", true, CORRECTED),
            ("corrected for chance, other pictures' questions", swapped, CORRECTED),
        ):
            one = run(folder / name, {"train": questions, "held_out": held_out}, quick | terms)
            shown(report, name, one)
            report.figure(f"{name}: reward of its last 10 steps", one.trained_on, "")
    gains = [one.reward[1] - one.reward[0] for one in runs]
    strict = [one.figures[1].strict - one.figures[0].strict for one in runs]
    if not arguments.quick:
        # Section 8 of the design.
        report.require("least gain by the training reader", min(gains), least=0.30)
        report.require("least gain by the strict reader", min(strict), least=0.25)
        report.require("least share of true facts", min(one.figures[1].true for one in runs), least=0.80)
        grammatical = min(one.figures[1].grammatical for one in runs)
        report.require("least share of grammatical captions", grammatical, least=0.95)
        report.require("longest run, minutes", max(one.wall_s for one in runs) / 60, most=6.0)
    report.finish()


if __name__ == "__main__":
    main()
