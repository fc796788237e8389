"""A curation recipe, a picture, samples, and the runner's own asking of one sample."""

import io
import json
from collections.abc import Sequence
from hashlib import sha256
from typing import Any

from PIL import Image

from caprl_core.data.row import Result
from caprl_core.data.sample import PlannedSample, PreparedImage
from caprl_core.engines.protocol import Engine
from caprl_core.engines.slots import PrioritySlots
from caprl_core.qa.question import Question, question_fields, question_id
from caprl_core.recipe.models import StageRecipe
from caprl_core.recipe.qa import QaRecipe
from caprl_core.shards.asking import Asker
from caprl_core.shards.meter import EngineMeter
from caprl_core.shards.stage import Stage
from caprl_core.storage.layout import Unit

WRITER = {
    "model": "lab/writer",
    "revision": None,
    "engine": "echo",
    "engine_version": "1",
    "prompt_id": "five",
    "attempt": 1,
}


def qa_recipe(output: str = "out", **changes: Any) -> QaRecipe:
    """A set over a folder of images; `changes` are dotted paths with `__` for the dot, None takes a field away."""
    values: dict[str, Any] = {
        "name": "drawn",
        "sources": [{"name": "folder", "kind": "folder", "uri": "images"}],
        "writer": {
            "model": {"name": "lab/writer"},
            "prompt": {"id": "five", "text": "Write five questions.", "system": "You write questions."},
        },
        "answerer": {
            "model": {"name": "lab/answerer"},
            "prompt": {"id": "letter", "text": "{question}\nAnswer with a letter."},
        },
        "execution": {
            "output": output,
            "writer": {"kind": "transformers", "concurrency": 4},
            "answerer": {"kind": "transformers", "concurrency": 8},
        },
    }
    for path, value in changes.items():
        *parents, last = path.split("__")
        place = values
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = value
    return QaRecipe.model_validate(values)


def picture() -> PreparedImage:
    """A small red picture."""
    buffer = io.BytesIO()
    Image.new("RGB", (56, 56), (200, 30, 30)).save(buffer, "PNG")
    data = buffer.getvalue()
    return PreparedImage(data, sha256(data).hexdigest(), len(data), "png", "PNG", 56, 56, 56, 56, data)


def question(number: int = 0, options: Sequence[str] = ("red", "blue", "green", "white"), gold: int = 1) -> Question:
    return Question(f"What colour is thing {number}?", tuple(options), gold)


def sample_with(*questions: Question, key: str = "folder-1", payload: str | None = None) -> PlannedSample:
    """A sample whose payload is the extract row of these questions, or the payload given."""
    rows = [{"id": question_id(key, one), **question_fields(one)} for one in questions]
    made = json.dumps({"key": key, "questions": rows, "refused": [], "writer": WRITER})
    return PlannedSample(key, 0, 0, "questions", f"{key}.png", payload=made if payload is None else payload)


async def ask(
    stage: Stage,
    recipe: StageRecipe,
    engine: Engine,
    sample: PlannedSample,
    image: PreparedImage | None,
    first: int = 1,
) -> Result:
    """What the runner makes of one sample, attempts from number `first` on."""
    asker = Asker(
        Unit(0, 0),
        0,
        stage=stage,
        engine=engine,
        info=await engine.start(),
        slots=PrioritySlots(engine.concurrency),
        meter=EngineMeter(),
        recipe=recipe,
    )

    async def entered() -> None:
        return None

    result, _ = await asker.ask(sample, image, first, entered)
    return result
