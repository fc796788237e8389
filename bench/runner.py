"""The shard runner on a server with long-tailed latencies, beside an ideal closed loop and the released script's loop.

The server is a process of its own; the latency of a request is a function of its bytes, and all contestants send the
same bytes, so all meet the same latencies.
"""

import asyncio
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from openai import OpenAI
from openai.types.chat import ChatCompletion

from bench.closed_loop import served_closed_loop
from bench.drawn_pictures import draw_folder
from bench.measuring import Report, options
from bench.s3_server import BUCKET, S3Server
from caprl_core.captioning.stage import CaptionStage
from caprl_core.data.decode_pool import DecodePool
from caprl_core.engines.openai import OpenAIEngine
from caprl_core.engines.protocol import Request
from caprl_core.recipe.models import CaptionRecipe
from caprl_core.shards.dataset import Dataset, create_dataset
from caprl_core.shards.lane import Lane
from caprl_core.shards.plan import write_plan
from caprl_core.shards.progress import unfinished_units
from caprl_core.storage.store import Store

METHOD = """Stub server: log-normal latencies, median 1 s, sigma 1 (mean 1.65 s, 1 % over 10 s), none over 30 s. 64
requests in flight. Runner: Lane with the openai engine, 3,000 JPEGs of 112 x 112 px from a folder in shards of 500, all
else at its default; timed from the first unit's start to the last commit's publication, engine loaded before. Ideal: 64
asyncio workers that pull the same requests in the same order through the same engine, images already decoded and
encoded, nothing logged, packed or stored. Barrier: the released script's loop (32 threads, a new batch of 100 only when
the last is done, one synchronous client), given the same finished request bodies, on the first 1,000 samples."""
MODEL = "stub"
ALL = ("ideal", "local", "s3", "barrier")


def recipe_for(images: Path, output: str, url: str, shard_samples: int) -> CaptionRecipe:
    return CaptionRecipe.model_validate(
        {
            "name": "bench",
            "sources": [{"name": "drawn", "kind": "folder", "uri": str(images)}],
            "dataset": {"shard_samples": shard_samples},
            "model": {"name": MODEL},
            "prompt": {"id": "detail", "text": "Please describe this image in detail."},
            "image": {"min_pixels": 28 * 28},
            "execution": {
                "output": output,
                "engine": {"kind": "openai", "urls": [url], "concurrency": 64},
            },
        }
    )


@contextmanager
def stub_server(median_s: float) -> Iterator[str]:
    command = [sys.executable, "-m", "caprl_core.world.stub_server", "--median", str(median_s), "--sigma", "1"]
    with subprocess.Popen([*command, "--cap", str(30 * median_s)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


def planned(recipe: CaptionRecipe) -> Dataset:
    store = Store(recipe.execution.output, recipe.execution.storage)
    return create_dataset(recipe, store, write_plan(recipe, store))


async def prepared(recipe: CaptionRecipe, dataset: Dataset) -> list[Request]:
    """Every sample's first request, in plan order, image decoded and encoded."""
    stage = CaptionStage(recipe)
    root = Path(recipe.sources[0].uri)
    requests = []
    async with DecodePool(recipe.image, workers=2, timeout_s=30, memory_mb=4096) as pool:
        for shard in range(dataset.plan.shards):
            for sample in dataset.plan.shard(shard):
                image = await pool.prepare((root / sample.image).read_bytes())
                requests += stage.requests(sample, image, 1)
    return requests


async def ideal(recipe: CaptionRecipe, requests: list[Request]) -> float:
    """Captions/s of a closed loop."""
    seconds = await served_closed_loop(recipe.model, recipe.execution.engine, requests)
    return len(requests) / seconds


def barrier(recipe: CaptionRecipe, requests: list[Request], url: str) -> float:
    """Captions/s of batches of 100 in 32 threads."""
    bodies = OpenAIEngine(recipe.model, recipe.execution.engine)
    payloads = [bodies._payload(request) for request in requests]  # the very bytes the other contestants send
    client = OpenAI(base_url=url, api_key="none", timeout=300)
    started = time.monotonic()

    def ask(payload: bytes) -> ChatCompletion:
        return client.post("/chat/completions", cast_to=ChatCompletion, content=payload)

    with ThreadPoolExecutor(32) as pool:
        for start in range(0, len(payloads), 100):
            list(pool.map(ask, payloads[start : start + 100]))
    return len(payloads) / (time.monotonic() - started)


def lane(recipe: CaptionRecipe, dataset: Dataset) -> float:
    """Captions/s of the factory, end to end."""
    units = unfinished_units(dataset)
    with Lane(recipe, dataset, CaptionStage(recipe), lambda own: OpenAIEngine(own.model, own.execution.engine)) as own:
        own.start()
        started = time.monotonic()
        with ThreadPoolExecutor(recipe.execution.runner.shards_in_flight) as pool:
            results = list(pool.map(own.run, units))
        seconds = time.monotonic() - started
    rows = sum(result.record.rows for result in results)
    assert rows == dataset.record.samples, f"{rows} rows of {dataset.record.samples} samples"
    return rows / seconds


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--only", nargs="+", default=ALL, choices=ALL, help="some contestants only")
    arguments = parser.parse_args()
    samples, shard_samples, median = (600, 150, 0.1) if arguments.quick else (3000, 500, 1.0)
    report = Report("runner", METHOD, quick=arguments.quick, packages=("openai", "httpx", "obstore", "moto"))
    with (
        tempfile.TemporaryDirectory(prefix="caprl-bench-") as name,
        stub_server(median) as url,
        S3Server(),
    ):
        folder = Path(name)
        images = draw_folder(folder / "images", samples, 112, 112)
        local = recipe_for(images, str(folder / "dataset"), url, shard_samples)
        remote = recipe_for(images, f"s3://{BUCKET}/dataset", url, shard_samples)
        dataset = planned(local)
        requests = asyncio.run(prepared(local, dataset))
        contestants: dict[str, tuple[str, Callable[[], float]]] = {
            "ideal": ("ideal closed loop, 64 in flight", lambda: asyncio.run(ideal(local, requests))),
            "local": ("caprl lane, local store", lambda: lane(local, dataset)),
            "s3": ("caprl lane, S3 (moto)", lambda: lane(remote, planned(remote))),
            "barrier": (
                "32 threads, barrier every 100",
                lambda: barrier(local, requests[: len(requests) // 3], url),
            ),
        }
        speed = {}
        for key, (title, contestant) in contestants.items():
            if key in arguments.only:
                speed[key] = contestant()
                report.figure(title, speed[key], "captions/s")
    if set(arguments.only) == set(ALL):
        report.require("lane on local store / ideal", speed["local"] / speed["ideal"], least=0.95)
        report.require("lane on S3 / ideal", speed["s3"] / speed["ideal"], least=0.95)
        report.require("lane on local store / barrier loop", speed["local"] / speed["barrier"], least=1.5)
    report.finish()


if __name__ == "__main__":
    main()
