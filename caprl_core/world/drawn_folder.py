"""A folder of drawn pictures with an index of what is in them."""

import json
import random
from pathlib import Path

from caprl_core.qa.question import question_fields
from caprl_core.world.captions import full_caption
from caprl_core.world.drawing import draw_scene
from caprl_core.world.questions import scene_questions
from caprl_core.world.scene import Split, scene_fields, scenes

INDEX = "scenes.jsonl"


def draw_folder(folder: Path, split: Split, count: int, seed: int = 0) -> Path:
    """Draw `count` PNG files and write the index, which is returned. The same arguments give the same bytes.

    A line of the index has `image` (file name), `scene`, `caption` (complete) and `questions` (as stored elsewhere,
    each with its `kind`). Files of earlier pictures with other names stay.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng = random.Random(f"questions/{split}/{seed}")
    lines = []
    for number, scene in enumerate(scenes(split, count, seed)):
        name = f"scene-{number:05d}.png"
        draw_scene(scene, seed).save(folder / name, "PNG")
        questions = [{"kind": one.kind, **question_fields(one.question)} for one in scene_questions(scene, rng)]
        lines.append(
            json.dumps(
                {
                    "image": name,
                    "scene": scene_fields(scene),
                    "caption": full_caption(scene),
                    "questions": questions,
                }
            )
        )
    index = folder / INDEX
    index.write_text("\n".join([*lines, ""]), encoding="utf-8")
    return index
