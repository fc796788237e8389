"""A process that works one stage of a Prism evaluation and kills itself where it is told.

Arguments: recipe file, stage, step at which to die (`-` for never), and at which occurrence of it.
"""

import sys
from typing import Any

from caprl_core.engines.none import NoEngine
from caprl_core.engines.open import open_engine
from caprl_core.prism.caption_stage import TakenCaptionsStage, WrittenCaptionsStage
from caprl_core.prism.judge_stage import JudgeStage
from caprl_core.prism.stages import WrittenCaptionsRecipe, caption_recipe, judge_recipe
from caprl_core.recipe.load import load_prism_recipe
from caprl_core.recipe.prism import PrismRecipe
from caprl_core.shards.dataset import create_dataset, has_dataset, open_dataset
from caprl_core.shards.lane import Lane
from caprl_core.shards.plan import write_plan
from caprl_core.shards.progress import unfinished_units
from caprl_core.storage.store import Store
from support.qa_process import Death, fingerprint


def parts(recipe: PrismRecipe, stage: str) -> tuple[Any, Any, Any]:
    """The stage's recipe, the stage, and what opens its engine."""
    captions = caption_recipe(recipe)
    if stage == "judge":
        own = judge_recipe(recipe, fingerprint(captions))
        return own, JudgeStage(own), open_engine
    if isinstance(captions, WrittenCaptionsRecipe):
        return captions, WrittenCaptionsStage(captions), open_engine
    return captions, TakenCaptionsStage(), lambda _: NoEngine()


def work(recipe: PrismRecipe, name: str, death: Death) -> None:
    own, stage, engine = parts(recipe, name)
    store = Store(own.execution.output)
    dataset = (
        open_dataset(store, own) if has_dataset(store) else create_dataset(own, store, write_plan(own, store), name)
    )
    with Lane(own, dataset, stage, engine) as lane:
        for unit in unfinished_units(dataset):
            lane.run(unit, death.event)


def worked(recipe: PrismRecipe) -> None:
    """Both stages, undisturbed."""
    for name in ("captions", "judge"):
        work(recipe, name, Death("-", 0))


def main() -> None:
    config, stage, step, occurrence = sys.argv[1:]
    work(load_prism_recipe(config), stage, Death(step, int(occurrence)))


if __name__ == "__main__":
    main()
