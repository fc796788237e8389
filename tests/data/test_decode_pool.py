"""A hostile image costs its own sample: never another's, the pool, the parent, or a process left behind."""

import asyncio
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import psutil
import pytest
from drawn_images import file_bytes, png_claiming, quadrants

from caprl_core.data.decode_pool import DecodePool
from caprl_core.data.images import prepare_image
from caprl_core.data.reasons import Reason
from caprl_core.errors import CaprlError, SampleFailedError
from caprl_core.recipe.models import ImageRecipe

RECIPE = ImageRecipe()
ODD_WORKER = Path(__file__).with_name("odd_decode_worker.py")
PICTURE = file_bytes(quadrants(300, 200), "JPEG")


def odd_pool(*, workers: int = 1, timeout_s: float = 60) -> DecodePool:
    command = (sys.executable, "-P", str(ODD_WORKER))
    return DecodePool(RECIPE, workers=workers, timeout_s=timeout_s, memory_mb=2048, command=command)


@pytest.fixture
async def pool() -> AsyncIterator[DecodePool]:
    async with odd_pool() as opened:
        yield opened


async def failure(pool: DecodePool, data: bytes) -> SampleFailedError:
    with pytest.raises(SampleFailedError) as caught:
        await pool.prepare(data)
    return caught.value


async def pid(pool: DecodePool) -> int:
    return int((await pool.prepare(b"pid")).encoded)


def gone(process: int) -> bool:
    try:
        return psutil.Process(process).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


async def eventually(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.01)


async def test_a_worker_prepares_what_the_function_prepares():
    async with DecodePool(RECIPE, workers=2, timeout_s=60, memory_mb=2048) as pool:
        files = [file_bytes(quadrants(28 * n, 90), "PNG") for n in range(2, 22)]
        assert await asyncio.gather(*map(pool.prepare, files)) == [prepare_image(data, RECIPE) for data in files]
        assert (await failure(pool, b"no picture")).reason == Reason.IMAGE_CORRUPT
        assert (await failure(pool, b"")).reason == Reason.IMAGE_CORRUPT
        assert (await failure(pool, png_claiming(60_000, 60_000))).reason == Reason.IMAGE_TOO_LARGE
        assert (await failure(pool, bytes(RECIPE.max_bytes + 1))).reason == Reason.IMAGE_TOO_LARGE


async def test_the_corpus_through_workers(corpus):
    async with DecodePool(RECIPE, workers=2, timeout_s=120, memory_mb=2048) as pool:
        files = sorted([*(corpus / "images").iterdir(), *(corpus / "bad_images").iterdir()])
        outcomes = await asyncio.gather(*(pool.prepare(path.read_bytes()) for path in files), return_exceptions=True)
    refused = {path.name: error for path, error in zip(files, outcomes, strict=True) if isinstance(error, Exception)}
    assert all(isinstance(error, SampleFailedError) for error in refused.values()), refused
    assert len(files) == 60
    assert len(refused) == 7
    assert all(name.startswith("pillow_") for name in refused)


@pytest.mark.parametrize(
    ("order", "reason", "detail"),
    [
        (b"signal SIGKILL", Reason.IMAGE_CRASHED, "died by SIGKILL"),
        (b"signal SIGSEGV", Reason.IMAGE_CRASHED, "died by SIGSEGV"),
        (b"exit 3", Reason.IMAGE_CRASHED, "exit code 3: last words"),
        (b"grow", Reason.IMAGE_TOO_LARGE, "decode_memory_mb"),
    ],
)
async def test_a_crashing_decode_costs_one_sample(order, reason, detail):
    async with odd_pool(workers=2) as pool:
        good = [pool.prepare(PICTURE) for _ in range(10)]
        error, *images = await asyncio.gather(failure(pool, order), *good)
        assert (error.reason, len(images)) == (reason, 10)
        assert detail in error.detail
        assert await pool.prepare(PICTURE) == prepare_image(PICTURE, RECIPE)


async def test_a_hanging_decode_costs_one_sample():
    async with odd_pool(workers=2, timeout_s=1.0) as pool:
        error, *images = await asyncio.gather(failure(pool, b"hang"), *(pool.prepare(b"pid") for _ in range(10)))
        assert (error.reason, len(images)) == (Reason.IMAGE_TIMEOUT, 10)
        assert "1 s" in error.detail
        await pool.prepare(b"pid")


async def test_a_stalled_parent_condemns_no_innocent_image():
    async with odd_pool(timeout_s=2.0) as pool:
        await pool.prepare(b"pid")
        waiting = asyncio.create_task(pool.prepare(b"echo"))
        await asyncio.sleep(0.1)
        time.sleep(2.5)  # the event loop is busy for longer than an image may take
        assert (await waiting).notes == ("echoed",)
        time.sleep(2.5)  # nor may an idle worker be killed
        await pool.prepare(b"pid")


async def test_the_death_of_an_idle_worker_costs_nothing(pool):
    first = await pid(pool)
    os.kill(first, signal.SIGKILL)
    await eventually(lambda: gone(first))
    assert await pid(pool) != first


async def test_a_worker_serves_many_images(pool):
    assert len({await pid(pool) for _ in range(20)}) == 1


async def test_noise_about_one_image_is_not_blamed_on_the_next():
    async with odd_pool() as pool:
        assert "last words" in (await failure(pool, b"exit 3")).detail
        assert "last words" not in (await failure(pool, b"signal SIGKILL")).detail


async def test_large_images_pass_both_ways(pool):
    data = b"echo\n" + random.Random(0).randbytes(20 * 2**20)
    image = await pool.prepare(data)
    assert image.encoded == image.original == data


async def test_a_cancelled_call_disturbs_no_other(pool):
    await pool.prepare(b"pid")
    slow = asyncio.create_task(pool.prepare(b"sleep 60"))
    queued = asyncio.create_task(pool.prepare(b"sleep 60"))
    served = asyncio.create_task(pool.prepare(PICTURE))
    await asyncio.sleep(0.05)
    queued.cancel()
    slow.cancel()
    assert await served == prepare_image(PICTURE, RECIPE)
    assert [type(outcome) for outcome in await asyncio.gather(slow, queued, return_exceptions=True)] == [
        asyncio.CancelledError
    ] * 2


async def test_cancelling_at_any_moment_keeps_the_pool_usable():
    dice = random.Random(1)
    async with odd_pool(workers=2) as pool:
        for _ in range(8):
            tasks = [asyncio.create_task(pool.prepare(PICTURE)) for _ in range(4)]
            await asyncio.sleep(dice.random() * 0.05)
            for task in tasks[:3]:
                task.cancel()
            await asyncio.gather(*tasks[:3], return_exceptions=True)
            assert (await tasks[3]).original == PICTURE


async def test_close_ends_workers_and_waiting_calls():
    pool = odd_pool(workers=2)
    workers = {int(image.encoded) for image in await asyncio.gather(*(pool.prepare(b"pid") for _ in range(8)))}
    calls = [asyncio.create_task(pool.prepare(b"hang")) for _ in range(6)]
    await asyncio.sleep(0.05)
    pool.close()
    assert all(gone(worker) for worker in workers)
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [CaprlError] * 6, outcomes
    pool.close()
    with pytest.raises(CaprlError, match="closed"):
        await pool.prepare(PICTURE)


async def test_a_pool_that_was_never_used_starts_no_process():
    before = psutil.Process().children()
    odd_pool(workers=4).close()
    assert psutil.Process().children() == before


async def test_a_worker_that_cannot_start_is_an_error_of_the_machine_and_not_of_the_image():
    command = (sys.executable, "-c", "import sys; sys.exit('no such library')")
    async with DecodePool(RECIPE, workers=1, timeout_s=5, memory_mb=2048, command=command) as pool:
        with pytest.raises(CaprlError, match="does not start: no such library") as caught:
            await pool.prepare(PICTURE)
    assert not isinstance(caught.value, SampleFailedError)


async def test_workers_import_nothing_heavy_and_see_no_credentials(pool, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    modules = (await pool.prepare(b"modules")).encoded.decode().split()
    heavy = {"torch", "numpy", "pyarrow", "prefect", "transformers", "vllm", "asyncio", "obstore"}
    assert heavy.isdisjoint(modules)
    assert "AWS_SECRET_ACCESS_KEY" not in (await pool.prepare(b"environment")).encoded.decode().split("\n")


async def test_workers_ignore_an_interrupt_meant_for_the_parent(pool):
    worker = await pid(pool)
    os.kill(worker, signal.SIGINT)
    assert await pid(pool) == worker


@pytest.mark.parametrize("order", ["hang", "pid"])
def test_no_worker_outlives_a_parent_that_was_killed(order, tmp_path):
    program = tmp_path / "parent.py"
    program.write_text(
        textwrap.dedent(f"""
        import asyncio, sys
        from caprl_core.data.decode_pool import DecodePool
        from caprl_core.recipe.models import ImageRecipe

        async def main():
            command = (sys.executable, "-P", {str(ODD_WORKER)!r})
            pool = DecodePool(ImageRecipe(), workers=1, timeout_s=600, memory_mb=2048, command=command)
            print((await pool.prepare(b"pid")).encoded.decode(), flush=True)
            await pool.prepare({order.encode()!r})
            await asyncio.sleep(600)

        asyncio.run(main())
        """)
    )
    with subprocess.Popen([sys.executable, str(program)], stdout=subprocess.PIPE, text=True) as parent:
        worker = int(parent.stdout.readline())
        assert not gone(worker)
        time.sleep(0.1)
        parent.kill()
    deadline = time.monotonic() + 30
    while not gone(worker) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert gone(worker)
