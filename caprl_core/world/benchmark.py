"""Drawn pictures with true questions as a benchmark in the plain form, and the best captions there could be of them."""

import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from caprl_core.world.captions import full_caption
from caprl_core.world.drawing import draw_scene
from caprl_core.world.question_set import drawn_scenes
from caprl_core.world.questions import scene_questions
from caprl_core.world.scene import Split


class WrittenBenchmark(NamedTuple):
    """Files of a benchmark: its questions, the folder of its pictures, and captions that say everything."""

    questions: Path
    pictures: Path
    perfect: Path


def write_benchmark(folder: Path, split: Split, count: int, seed: int = 0) -> WrittenBenchmark:
    """`count` pictures with all their questions; the same arguments give the same bytes."""
    pictures = folder / "pictures"
    pictures.mkdir(parents=True, exist_ok=True)
    rng = random.Random(f"benchmark/{split}/{seed}")
    questions, captions = [], []
    for number, (name, scene) in enumerate(drawn_scenes(split, count, seed).items()):
        draw_scene(scene, number).save(pictures / f"{name}.png")
        captions.append({"image": f"{name}.png", "caption": full_caption(scene)})
        for place, one in enumerate(scene_questions(scene, rng)):
            asked = one.question
            questions.append(
                {
                    "id": f"{name}/{place}",
                    "image": f"{name}.png",
                    "question": asked.stem,
                    "options": list(asked.options),
                    "answer": asked.answer,
                }
            )
    return WrittenBenchmark(
        _write(folder / "questions.jsonl", questions), pictures, _write(folder / "perfect.jsonl", captions)
    )


def _write(path: Path, rows: Sequence[Mapping[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path
