"""A lane whose engine lives in its own process, and takes the process along when it is asked about a poisoned image.

`python -m support.poisoned_process URI IMAGES JOURNAL SHARDS POISON [RUNNER]`: SHARDS as `0,1`, POISON a sample's key,
RUNNER further settings as JSON. Each request is appended to JOURNAL before it can do harm.
"""

import json
import os
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from caprl_core.engines.protocol import Request
from caprl_core.errors import ShardQuarantinedError
from caprl_core.shards.dataset import open_dataset
from caprl_core.storage.layout import Unit
from caprl_core.storage.store import Store
from support.drawn_dataset import lane_for, recipe_for
from support.echo_engine import EchoEngine, caption_of

QUARANTINED = 5


def main() -> int:
    uri, images, journal, shards, poison = sys.argv[1:6]
    settings = {"flush_s": 0.05, "decode_workers": 1} | json.loads(sys.argv[6] if len(sys.argv) > 6 else "{}")
    written = os.open(journal, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def answer(request: Request) -> str:
        if request.request_id.startswith(poison):
            os.kill(os.getpid(), signal.SIGKILL)
        return caption_of(request)

    engine = EchoEngine(
        4,
        latency_s=lambda _: 0.02,
        answer=answer,
        asked=lambda request: os.write(written, f"{request.request_id}\n".encode()),
    )
    recipe = recipe_for(Path(images), uri, execution__runner=settings)
    dataset = open_dataset(Store(uri), recipe)
    quarantined = []

    def work(shard: int) -> None:
        try:
            lane.run(Unit(shard, 0))
        except ShardQuarantinedError as error:
            quarantined.append(shard)
            print(error, flush=True)

    with lane_for(recipe, dataset, engine) as lane, ThreadPoolExecutor(4) as pool:
        list(pool.map(work, map(int, shards.split(","))))
    return QUARANTINED if quarantined else 0


if __name__ == "__main__":
    sys.exit(main())
