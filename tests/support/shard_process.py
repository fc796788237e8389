"""A process that works shards and kills itself, or is killed, wherever a test wants.

Forks a child for every order read from stdin (`<order> <store uri> <images> <kill at step | -> <occurrence>`), so that
hundreds of kills do not pay for hundreds of imports. The child appends to `<order>.asked` each request it sends and
to `<order>.answered` each one it got, before anything else can happen; prints nothing; its exit status is echoed.
"""

import os
import signal
import sys
import threading
from pathlib import Path

from caprl_core.engines.protocol import Request
from caprl_core.shards.dataset import open_dataset
from caprl_core.shards.events import ShardEvent
from caprl_core.shards.progress import unfinished_units
from caprl_core.storage.store import Store
from support.drawn_dataset import lane_for, recipe_for
from support.echo_engine import EchoEngine, caption_of

CONCURRENCY = 4
WINDOW = 12


def work(journal: Path, uri: str, images: str, step: str, occurrence: int) -> None:
    asked = os.open(f"{journal}.asked", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    answered = os.open(f"{journal}.answered", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    seen: dict[str, int] = {}
    lock = threading.Lock()

    def observe(event: ShardEvent) -> None:
        with lock:
            seen[event.step] = seen.get(event.step, 0) + 1
            if event.step == step and seen[event.step] == occurrence:
                os.kill(os.getpid(), signal.SIGKILL)

    def answer(request: Request) -> str:
        os.write(answered, f"{request.request_id}\n".encode())
        return caption_of(request)

    engine = EchoEngine(
        CONCURRENCY,
        latency_s=lambda request: 0.002 + int(request.images[0].sha256[:2], 16) / 255 * 0.02,
        answer=answer,
        asked=lambda request: os.write(asked, f"{request.request_id}\n".encode()),
    )
    # Processes are killed here from outside, again and again, as no host ever is: no sample is to blame.
    recipe = recipe_for(Path(images), uri, execution__runner__window=WINDOW, execution__runner__engine_deaths=1000)
    store = Store(uri)
    dataset = open_dataset(store, recipe)
    with lane_for(recipe, dataset, engine) as lane:
        for unit in unfinished_units(dataset):
            lane.run(unit, observe)


def main() -> None:
    for line in sys.stdin:
        journal, uri, images, step, occurrence = line.rstrip("\n").split("\t")
        child = os.fork()
        if child == 0:
            os.setsid()
            status = 1
            try:
                work(Path(journal), uri, images, step, int(occurrence))
                status = 0
            except BaseException as error:
                print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
            finally:
                os._exit(status)
        print(f"pid {child}", flush=True)
        _, state = os.waitpid(child, 0)
        print(f"end {os.waitstatus_to_exitcode(state)}", flush=True)


if __name__ == "__main__":
    main()
