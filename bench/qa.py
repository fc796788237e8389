"""Generating and answering questions: our stages on the shard runner, the released method's loops, an ideal loop.

All on one server process (bench/prefix_server.py, which states its model of time), with the same pictures and the same
questions, one contestant after the other; before each the server forgets what it has cached.
"""

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import orjson
from PIL import Image

from bench.closed_loop import served_closed_loop
from bench.drawn_pictures import draw_folder
from bench.measuring import Report, options
from bench.prefix_server import ANSWERER, MODELS, WRITER, mark, questions
from bench.released_loops import ROTATIONS, ReleasedLoops
from caprl_core.data.decode_pool import DecodePool
from caprl_core.data.sample import PlannedSample, PreparedImage
from caprl_core.engines.openai import OpenAIEngine
from caprl_core.engines.protocol import Reply, Request
from caprl_core.qa.answer import AnswerStage
from caprl_core.qa.generate import GenerateStage
from caprl_core.qa.question import question_fields, question_id
from caprl_core.recipe.models import EngineRecipe
from caprl_core.recipe.qa_stages import AnswerStageRecipe, GenerateRecipe
from caprl_core.shards.dataset import Dataset, create_dataset
from caprl_core.shards.lane import Lane
from caprl_core.shards.plan import write_plan
from caprl_core.shards.progress import unfinished_units
from caprl_core.shards.stage import Outcome, Stage
from caprl_core.storage.store import Store

METHOD = """Server: bench/prefix_server.py in a process of its own; as many requests at work as given below, the same
for all contestants; time scaled (writer 1/3, answerer x 30), or the clients' processor time would be measured.
Pictures: JPEGs of 224 x 224 px in a folder, 1 to 3 questions each (mean 2) with four options, 4 rotations, with and
without the image. Caprl: Lane with the openai engine, concurrency = the server's places, all else at its default,
shards of 50; timed from the first unit's start to the last commit's publication. Released: bench/released_loops.py, 32
threads, batches of 100; answering on the first 100 pictures only, since every batch is like the other. Ideal: as many
asyncio workers as places, the same requests through the same engine, images prepared before, each image's first request
four fillings of the server ahead of its others, nothing logged, packed or stored."""


class AnswersOfScript(AnswerStage):
    """The answering stage over a folder of marked pictures: their questions are put in as the payload."""

    def __init__(self, recipe: AnswerStageRecipe, leads: int) -> None:
        super().__init__(recipe)
        self.leads = leads

    def requests(self, sample: PlannedSample, image: PreparedImage | None, attempt: int) -> Sequence[Request]:
        return super().requests(_with_questions(sample), image, attempt)

    def outcome(self, sample: PlannedSample, replies: Sequence[Reply], attempt: int) -> Outcome:
        return super().outcome(_with_questions(sample), replies, attempt)


def _with_questions(sample: PlannedSample) -> PlannedSample:
    found = questions(int(Path(sample.image).stem))
    asked = [{"id": question_id(sample.key, question), **question_fields(question)} for question in found]
    return replace(sample, payload=orjson.dumps({"questions": asked, "writer": {}}).decode())


def _fields(images: Path, output: Path, url: str, model: str, places: int, limit: int) -> dict[str, Any]:
    return {
        "name": f"bench-{model}",
        "sources": [{"name": "drawn", "kind": "folder", "uri": str(images), "limit": limit}],
        "dataset": {"shard_samples": 50},
        "model": {"name": model},
        "execution": {
            "output": str(output),
            "engine": {"kind": "openai", "urls": [url], "concurrency": places, "timeout_s": 600},
        },
    }


def generate_recipe(images: Path, output: Path, url: str, places: int, limit: int) -> GenerateRecipe:
    prompt = {"id": "bench", "text": "The image.", "system": "Write five multiple-choice questions about the image."}
    fields = _fields(images, output, url, WRITER, places, limit)
    return GenerateRecipe.model_validate({**fields, "writer": {"model": fields["model"], "prompt": prompt}})


def answer_recipe(images: Path, output: Path, url: str, places: int, limit: int) -> AnswerStageRecipe:
    prompt = {"id": "bench", "text": "{question}\nReply with the right option's letter, nothing else."}
    fields = _fields(images, output, url, ANSWERER, places, limit)
    return AnswerStageRecipe.model_validate({**fields, "answerer": {"model": fields["model"], "prompt": prompt}})


def planned(recipe: EngineRecipe) -> Dataset:
    store = Store(recipe.execution.output, recipe.execution.storage)
    return create_dataset(recipe, store, write_plan(recipe, store))


def lane(recipe: EngineRecipe, stage: Stage) -> float:
    """Images/s of a stage from the first unit's start to the last commit."""
    dataset = planned(recipe)
    units = unfinished_units(dataset)
    with Lane(recipe, dataset, stage, lambda _: OpenAIEngine(recipe.model, recipe.execution.engine)) as own:
        own.start()
        started = time.monotonic()
        with ThreadPoolExecutor(recipe.execution.runner.shards_in_flight) as pool:
            results = list(pool.map(own.run, units))
        seconds = time.monotonic() - started
    rows = sum(result.record.rows for result in results)
    assert rows == dataset.record.samples, f"{rows} rows of {dataset.record.samples} samples"
    return rows / seconds


async def prepared(recipe: EngineRecipe, stage: Stage) -> list[Sequence[Request]]:
    """Every sample's requests, in plan order, image decoded and encoded."""
    dataset = planned(recipe)
    root = Path(recipe.sources[0].uri)
    asked = []
    async with DecodePool(recipe.image, workers=2, timeout_s=30, memory_mb=4096) as pool:
        for shard in range(dataset.plan.shards):
            for sample in dataset.plan.shard(shard):
                image = await pool.prepare((root / sample.image).read_bytes())
                asked.append(stage.requests(sample, image, 1))
    return asked


def staggered(asked: Sequence[Sequence[Request]], ahead: int) -> Iterator[Request]:
    """Each image's first request about `ahead` requests before its others."""
    images = max(1, ahead * len(asked) // sum(len(requests) for requests in asked))
    for place in range(len(asked) + images):
        if place < len(asked):
            yield asked[place][0]
        if place >= images:
            yield from asked[place - images][1:]


async def ideal(recipe: EngineRecipe, requests: Iterable[Request], images: int) -> float:
    """Images/s of a closed loop."""
    seconds = await served_closed_loop(recipe.model, recipe.execution.engine, requests)
    return images / seconds


@contextmanager
def server(speed: float, answer_places: int) -> Iterator[str]:
    command = [sys.executable, "-m", "bench.prefix_server", "--speed", str(speed)]
    command += ["--answer-places", str(answer_places)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


def draw_marked(folder: Path, count: int) -> Path:
    """Pictures whose number the writer can tell."""
    draw_folder(folder, count, 224, 224)
    for path in sorted(folder.iterdir()):
        with Image.open(path) as opened:
            picture = opened.convert("RGB")
        mark(picture, int(path.stem))
        picture.save(path, "JPEG", quality=85)
    return folder


class Comparison:
    """Runs contestants, and has the server forget between them."""

    def __init__(self, report: Report, url: str, only: Sequence[str]) -> None:
        self._report, self._url, self._only = report, url, only
        self.speeds: dict[str, float] = {}

    def run(self, key: str, title: str, contestant: Callable[[], float]) -> None:
        """`contestant` returns images/s."""
        if key not in self._only:
            return
        before = _cpu_s()
        speed = self.speeds[key] = contestant()
        used = _cpu_s() - before
        said = httpx.post(self._url.removesuffix("/v1") + "/forget").json()
        self._report.figure(title, speed, "images/s")
        self._report.figure(f"{title}: prompt tokens cached", said["cached_tokens"] / said["prompt_tokens"], "share")
        self._report.figure(f"{title}: most at work", said["most_at_work"], "requests")
        self._report.figure(f"{title}: CPU of the client", 1000 * used / said["requests"], "ms/request")


def _cpu_s() -> float:
    """Seconds of this process and of children that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def generating(
    compare: Comparison, images: Path, folder: Path, url: str, places: int, loops: ReleasedLoops, count: int
) -> None:
    paths = sorted(images.iterdir())[:count]

    def released() -> float:
        seconds, requests = loops.generate(paths)
        assert requests == len(paths)
        return len(paths) / seconds

    def closed_loop() -> float:
        recipe = generate_recipe(images, folder / "generate-ideal", url, places, len(paths))
        asked = asyncio.run(prepared(recipe, GenerateStage(recipe)))
        return asyncio.run(ideal(recipe, [requests[0] for requests in asked], len(paths)))

    recipe = generate_recipe(images, folder / "generate", url, places, len(paths))
    compare.run("generate", "generating: caprl lane", lambda: lane(recipe, GenerateStage(recipe)))
    compare.run("generate-ideal", "generating: ideal closed loop", closed_loop)
    compare.run("generate-released", "generating: released method", released)


def answering(
    compare: Comparison, images: Path, folder: Path, url: str, places: int, loops: ReleasedLoops, count: int, peer: int
) -> None:
    asked_by_peer = [(path, questions(int(path.stem))) for path in sorted(images.iterdir())[:peer]]
    mean = sum(len(questions(number)) for number in range(count)) / count

    def released() -> float:
        seconds, requests = loops.answer(asked_by_peer)
        assert requests == sum(2 * ROTATIONS * len(asked) for _, asked in asked_by_peer)
        return requests / seconds / (2 * ROTATIONS * mean)  # images of as many questions as the others'

    def closed_loop() -> float:
        recipe = answer_recipe(images, folder / "answer-ideal", url, places, count)
        asked = asyncio.run(prepared(recipe, AnswersOfScript(recipe, 1)))
        return asyncio.run(ideal(recipe, staggered(asked, 4 * places), count))

    def ours(leads: int) -> float:
        recipe = answer_recipe(images, folder / f"answer-{leads}", url, places, count)
        return lane(recipe, AnswersOfScript(recipe, leads))

    compare.run("answer", "answering: caprl lane, leads 1", lambda: ours(1))
    compare.run("answer-leads-0", "answering: caprl lane, leads 0", lambda: ours(0))
    compare.run("answer-ideal", "answering: ideal closed loop", closed_loop)
    compare.run("answer-released", "answering: released method", released)


DEFAULT = ("generate", "generate-ideal", "generate-released", "answer", "answer-ideal", "answer-released")
ALL = (*DEFAULT, "answer-leads-0")


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--only", nargs="+", default=DEFAULT, choices=ALL, help="some contestants only")
    parser.add_argument("--answer-places", type=int, default=MODELS[ANSWERER].places, help="of the answerer's server")
    arguments = parser.parse_args()
    generated, answered, peer, speed = (100, 40, 20, 4.0) if arguments.quick else (450, 700, 100, 1.0)
    report = Report("qa", METHOD, quick=arguments.quick, packages=("openai", "httpx", "aiohttp"))
    report.figure("generating: requests the server works on at once", MODELS[WRITER].places, "requests")
    report.figure("answering: requests the server works on at once", arguments.answer_places, "requests")
    with tempfile.TemporaryDirectory(prefix="caprl-bench-") as name, server(speed, arguments.answer_places) as url:
        folder = Path(name)
        images = draw_marked(folder / "images", max(generated, answered))
        compare = Comparison(report, url, arguments.only)
        loops = ReleasedLoops(url, WRITER, ANSWERER, folder / "released.jsonl")
        generating(compare, images, folder, url, MODELS[WRITER].places, loops, generated)
        answering(compare, images, folder, url, arguments.answer_places, loops, answered, peer)
    speeds = compare.speeds
    if set(arguments.only) >= set(DEFAULT):
        report.require("generating: caprl / released", speeds["generate"] / speeds["generate-released"], least=1.5)
        report.require("answering: caprl / released", speeds["answer"] / speeds["answer-released"], least=8)
        report.figure("generating: caprl / ideal", speeds["generate"] / speeds["generate-ideal"], "share")
        report.figure("answering: caprl / ideal", speeds["answer"] / speeds["answer-ideal"], "share")
    report.finish()


if __name__ == "__main__":
    main()
