"""The training flow: train a captioner, look at its held-out rewards, write its page, register it.

Running it again resumes from the newest checkpoint, and ends at once when the captioner is registered.
`python -m flows.train_captioner --config FILE` runs it in this process. Over several machines, each runs the flow; all
but the first only train.
"""

if __name__ == "__main__":
    # Before Prefect is imported: it reads its settings and sets up logging at that moment.
    from flows.command_line import train_captioner_command

    train_captioner_command()

from typing import Any

from prefect import flow

from caprl_core.errors import BadInputError
from caprl_core.recipe.load import load_training_recipe
from caprl_core.recipe.training import TrainingRecipe
from caprl_core.training.launch import machine_rank
from caprl_core.training.registry import Captioner, registered_before
from flows.run_names import named_by
from flows.training_watching import TRAINING_WATCHER
from tasks.training import Watched, evaluate, register, train, write_page


@flow(name="train-captioner", flow_run_name=named_by(load_training_recipe), persist_result=False)
def train_captioner(config: str, output: str | None = None) -> dict[str, Any]:
    """Train the captioner of a recipe, or what is left of it, and register it. Returns a summary.

    `config` is a recipe file, `output` replaces its `execution.output`.
    """
    recipe = _relocated(load_training_recipe(config), output)
    summary = {"name": recipe.name, "uri": recipe.execution.output}
    if (found := registered_before(recipe)) is not None:
        return summary | _registered(found, fresh=False) | {"lines": [f"registered before: {_line(found)}"]}
    trained = train(recipe, Watched(TRAINING_WATCHER.get()))
    if rank := machine_rank(recipe):
        return summary | {"lines": [f"machine {rank} has done its part; the first one registers the captioner"]}
    held_out = evaluate(recipe)
    page = write_page(recipe)
    captioner = register(recipe, trained["exported_step"])
    lines = [held_out.pop("line"), f"page: {page}", f"registered: {_line(captioner)}"]
    if trained["stopped"] is not None:
        lines.insert(0, f"training ended early, after step {trained['step']:,}: {trained['stopped']}")
    found_facts = _registered(captioner, fresh=True)
    return summary | found_facts | {"trained_to": trained["step"], "held_out": held_out, "page": page, "lines": lines}


def _registered(captioner: Captioner, *, fresh: bool) -> dict[str, Any]:
    record = captioner.record
    return {
        "captioner": captioner.uri,
        "fresh": fresh,
        "step": record.step,
        "held_out_before": record.held_out_before,
        "held_out_reward": record.held_out_reward,
    }


def _line(captioner: Captioner) -> str:
    return f"{captioner.record.name}, step {captioner.record.step:,}, {captioner.uri}"


def _relocated(recipe: TrainingRecipe, output: str | None) -> TrainingRecipe:
    """The recipe with another output. Identity does not change."""
    if output is None:
        return recipe
    if "://" in output and recipe.execution.work is None:
        raise BadInputError(f"the output is {output}: name a local folder to work in, execution.work, in the recipe")
    execution = recipe.execution.model_copy(update={"output": output})
    return recipe.model_copy(update={"execution": execution})
