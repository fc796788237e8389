"""Prism evaluations by the real stages over drawn pictures, with a captioner and a judge that say what a test wants."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from PIL import Image

from caprl_core.data.reasons import Reason
from caprl_core.engines.none import NoEngine
from caprl_core.engines.protocol import EngineInfo, Reply, Request
from caprl_core.errors import SampleFailedError
from caprl_core.prism.caption_stage import TakenCaptionsStage, WrittenCaptionsStage
from caprl_core.prism.judge_stage import JudgeStage
from caprl_core.prism.stages import CAPTIONS, JUDGE, WrittenCaptionsRecipe, caption_recipe, judge_recipe
from caprl_core.recipe.models import StageRecipe
from caprl_core.recipe.prism import PrismRecipe
from caprl_core.shards.dataset import Dataset, create_dataset
from caprl_core.shards.lane import Lane
from caprl_core.shards.plan import write_plan
from caprl_core.shards.progress import unfinished_units
from caprl_core.shards.stage import Stage
from caprl_core.storage.store import Store

OPTIONS = ("red", "green", "blue", "white")
_ABOUT = re.compile(r"caption (\d+) of picture (\w+)(.*?)question (\d+) of (\w+)", re.DOTALL)


class About(NamedTuple):
    """What the judge is asked: numbers are 0-based."""

    benchmark: str
    image: str
    caption: int
    question: int


class Said(NamedTuple):
    """A reply to order; `failed` requests get none."""

    text: str
    finish_reason: str = "stop"
    failed: bool = False


def right(about: About) -> Said:
    """The right answer of `write_questions`."""
    return Said(f"Answer: {'B' if about.benchmark == 'colours' else 'seven'}")


class ScriptedEngine:
    """Captions name their picture and number; replies are what `judge` says of them."""

    image_encoding: Literal["png", "bmp"] = "bmp"
    concurrency = 8

    def __init__(self, judge: Callable[[About], Said] = right, caption: str = "caption {} of picture {}") -> None:
        self._judge = judge
        self._caption = caption

    async def start(self) -> EngineInfo:
        return EngineInfo("scripted", "1.2", "lab/scripted", None)

    async def generate(self, request: Request) -> Reply:
        if request.images:
            number = int(request.request_id.rpartition("/")[2])
            text = self._caption.format(number, request.images[0].sha256[:12])
            said = Said(text, "length" if number == 1 else "stop")
        else:
            found = _ABOUT.search(request.text)
            assert found is not None, request.text
            said = self._judge(About(found[5], found[2], int(found[1]), int(found[4])))
        if said.failed:
            raise SampleFailedError(Reason.REQUEST_FAILED, "the server said 500")
        return Reply(said.text, said.finish_reason, 10, len(said.text.split()), 0.001)

    async def close(self) -> None:
        return None


def write_questions(folder: Path, name: str, images: int, questions: int = 2, **fields: Any) -> Path:
    """A benchmark of pictures: `colours` with options, any other name open, with answers in two spellings."""
    pictures = folder / "pictures"
    pictures.mkdir(parents=True, exist_ok=True)
    rows = []
    for number in range(images):
        path = f"{name}-{number}.png"
        colour = (number * 37 % 256, number * 91 % 256, (sum(name.encode()) * 13 + number) % 256)
        Image.new("RGB", (56, 84), colour).save(pictures / path)
        for place in range(questions):
            options = {"options": list(OPTIONS), "answer": "B"} if name == "colours" else {"answer": ["seven", "7"]}
            asked = {"id": f"{number}-{place}", "image": path, "question": f"This is question {place} of {name}."}
            rows.append(asked | options | fields)
    file = folder / f"{name}.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def prism_recipe(folder: Path, benchmarks: Mapping[str, Mapping[str, Any]], **changes: Any) -> PrismRecipe:
    """A recipe over files of `write_questions` in `folder`; `changes` are dotted paths with `__` for the dot."""
    engine = {"kind": "transformers", "concurrency": 8}
    values: dict[str, Any] = {
        "name": "drawn",
        "benchmarks": [
            {"name": name, "form": "questions", "uri": str(folder / f"{name}.jsonl"),
             "images": {"": str(folder / "pictures")}} | fields
            for name, fields in benchmarks.items()
        ],
        "captioner": {"model": {"name": "lab/captioner"}, "captions": 4},
        "judge": {"model": {"name": "lab/judge"}},
        "intervals": {"draws": 400},
        "dataset": {"shard_samples": 5},
        "execution": {
            "output": str(folder / "out"), "captioner": engine, "judge": engine,
            "runner": {"flush_s": 0.05, "decode_workers": 1}, "gate": {"max_share": {"*": 1.0}},
        },
    }  # fmt: skip
    for path, value in changes.items():
        *parents, last = path.split("__")
        place = values
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = value
    if values["captioner"] is None:
        values["execution"]["captioner"] = None
    return PrismRecipe.model_validate(values)


def run_captions(recipe: PrismRecipe, engine: ScriptedEngine | None = None, shards: int | None = None) -> Dataset:
    """Plan and work the first stage, or the first `shards` unfinished shards of it."""
    own = caption_recipe(recipe)
    if isinstance(own, WrittenCaptionsRecipe):
        return _worked(own, CAPTIONS, WrittenCaptionsStage(own), engine or ScriptedEngine(), shards)
    return _worked(own, CAPTIONS, TakenCaptionsStage(), NoEngine(), shards)


def run_judge(recipe: PrismRecipe, engine: ScriptedEngine, shards: int | None = None) -> Dataset:
    """The same of the second."""
    captions = caption_recipe(recipe)
    upstream = create_dataset(
        captions, Store(captions.execution.output), write_plan(captions, Store(captions.execution.output)), CAPTIONS
    )
    own = judge_recipe(recipe, upstream.record.fingerprint)
    return _worked(own, JUDGE, JudgeStage(own), engine, shards)


def run_prism(recipe: PrismRecipe, judge: Callable[[About], Said] = right) -> PrismRecipe:
    """Both stages, whole."""
    engine = ScriptedEngine(judge)
    run_captions(recipe, engine)
    run_judge(recipe, engine)
    return recipe


def write_captions(path: Path, names: Sequence[str], captions: Sequence[str] = ("caption 0 of picture x",)) -> Path:
    """A file of captions of these images."""
    rows = [{"image": name, "captions": list(captions)} for name in names]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def _worked(recipe: StageRecipe, name: str, stage: Stage, engine: Any, shards: int | None) -> Dataset:
    store = Store(recipe.execution.output)
    dataset = create_dataset(recipe, store, write_plan(recipe, store), name)
    with Lane(recipe, dataset, stage, lambda _: engine) as lane:
        for unit in unfinished_units(dataset)[:shards]:
            lane.run(unit)
    return dataset
