"""Drawn pictures with true questions as a question set: parquet in the schema of CapRL-QA-75K."""

import io
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from caprl_core.qa.question import Question
from caprl_core.qa.sets.curated_files import choices
from caprl_core.qa.sets.released import DATA_SOURCE, PROMPT, RELEASED
from caprl_core.world.drawing import draw_scene
from caprl_core.world.questions import scene_questions
from caprl_core.world.scene import Scene, Split, scenes


def drawn_scenes(split: Split, count: int, seed: int = 0) -> dict[str, Scene]:
    """The scenes of such a set, by key."""
    return {f"{split}-{seed}-{number:05d}": scene for number, scene in enumerate(scenes(split, count, seed))}


def write_question_set(path: Path, split: Split, count: int, seed: int = 0, *, swapped: bool = False) -> Path:
    """`count` pictures of the split with all their questions; the same arguments give the same file.

    `swapped` gives each picture the questions of the one before: a control, as what they ask for is not in the picture.
    """
    rng = random.Random(f"question-set/{split}/{seed}")
    drawn = drawn_scenes(split, count, seed)
    asked = [[one.question for one in scene_questions(scene, rng)] for scene in drawn.values()]
    if swapped:
        asked = [asked[number - 1] for number in range(count)]
    rows = []
    for number, ((name, scene), some) in enumerate(zip(drawn.items(), asked, strict=True)):
        picture = io.BytesIO()
        draw_scene(scene, number).save(picture, "PNG")
        rows.append(
            {
                "id": name,
                "image": {"bytes": picture.getvalue(), "path": f"{name}.png"},
                "prompt": [{"role": "user", "content": PROMPT}],
                "data_source": DATA_SOURCE,
                "reward_model": {"ground_truth": [_stored(question) for question in some]},
            }
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, schema=RELEASED), path, compression="zstd")
    return path


def _stored(question: Question) -> dict[str, Any]:
    return {"question": question.stem, "choices": choices(question.options), "answer": question.answer}
