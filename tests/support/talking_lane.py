"""`python -m support.talking_lane RECIPE.json`: works a dataset with an engine that logs whose request it answers.

In its own tasks and in threads it hands work to, and once with an error; several shards at once.
"""

import asyncio
import logging
import sys
from pathlib import Path

from caprl_core.engines.protocol import Reply, Request
from caprl_core.recipe.models import CaptionRecipe
from caprl_core.storage.layout import Unit
from support.drawn_dataset import planned
from support.echo_engine import EchoEngine
from support.watched_lane import work_all

log = logging.getLogger("caprl_core.engines.talking")


class TalkingEngine(EchoEngine):
    async def generate(self, request: Request) -> Reply:
        log.info("asked %s", request.request_id)
        await asyncio.to_thread(log.info, "thread %s", request.request_id)
        reply = await super().generate(request)
        try:
            raise ValueError(f"of {request.request_id}")
        except ValueError:
            log.warning("odd %s", request.request_id, exc_info=True)
        return reply


def main() -> None:
    recipe = CaptionRecipe.model_validate_json(Path(sys.argv[1]).read_text())
    dataset = planned(recipe)
    logging.getLogger("a.package").warning("before")
    units = [Unit(shard, 0) for shard in range(dataset.record.shards)]
    work_all(recipe, dataset, TalkingEngine, units, threads=4, then=lambda: logging.getLogger("x").warning("within"))


if __name__ == "__main__":
    main()
