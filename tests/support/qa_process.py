"""A process that works one stage of a scripted curation and kills itself where it is told.

Arguments: recipe file, stage, step at which to die (`-` for never), and at which occurrence of it. The steps of the
filter are `put`: before each object it writes.
"""

import os
import signal
import sys
import threading
from typing import Any

from caprl_core.engines.none import NoEngine
from caprl_core.engines.open import open_engine
from caprl_core.qa.answer import AnswerStage
from caprl_core.qa.extract import ExtractStage
from caprl_core.qa.finish import finish
from caprl_core.qa.generate import GenerateStage
from caprl_core.recipe.load import load_qa_recipe
from caprl_core.recipe.qa import QaRecipe
from caprl_core.recipe.qa_stages import answer_recipe, extract_recipe, generate_recipe
from caprl_core.shards.dataset import create_dataset, has_dataset, open_dataset
from caprl_core.shards.events import ShardEvent
from caprl_core.shards.lane import Lane
from caprl_core.shards.plan import write_plan
from caprl_core.shards.progress import unfinished_units
from caprl_core.storage.store import Store


class Death:
    """Counts steps; at the wanted one nothing of this process remains."""

    def __init__(self, step: str, occurrence: int) -> None:
        self._step = step
        self._left = occurrence
        self._lock = threading.Lock()

    def passed(self, step: str) -> None:
        with self._lock:
            if step != self._step:
                return
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    def event(self, event: ShardEvent) -> None:
        self.passed(event.step)


def parts(recipe: QaRecipe, stage: str) -> tuple[Any, Any, Any]:
    """The stage's recipe, the stage, and what opens its engine."""
    if stage == "generate":
        generate = generate_recipe(recipe)
        return generate, GenerateStage(generate), open_engine
    extract = extract_recipe(recipe, None if recipe.imports else fingerprint(generate_recipe(recipe)))
    if stage == "extract":
        return extract, ExtractStage(extract, "kept" if recipe.imports else "unread"), lambda _: NoEngine()
    answer = answer_recipe(recipe, fingerprint(extract))
    return answer, AnswerStage(answer), open_engine


def fingerprint(upstream: Any) -> str:
    return open_dataset(Store(upstream.execution.output), upstream).record.fingerprint


def work(recipe: QaRecipe, name: str, death: Death) -> None:
    own, stage, engine = parts(recipe, name)
    store = Store(own.execution.output)
    dataset = (
        open_dataset(store, own) if has_dataset(store) else create_dataset(own, store, write_plan(own, store), name)
    )
    with Lane(own, dataset, stage, engine) as lane:
        for unit in unfinished_units(dataset):
            lane.run(unit, death.event)


def main() -> None:
    config, stage, step, occurrence = sys.argv[1:]
    recipe, death = load_qa_recipe(config), Death(step, int(occurrence))
    if stage != "filter":
        work(recipe, stage, death)
        return
    put_file, create, put = Store.put_file, Store.create, Store.put

    def before(method: Any) -> Any:
        def writes(*arguments: Any, **named: Any) -> Any:
            death.passed("put")
            return method(*arguments, **named)

        return writes

    for method, own in (("put_file", put_file), ("create", create), ("put", put)):
        setattr(Store, method, before(own))
    finish(recipe)


if __name__ == "__main__":
    main()
