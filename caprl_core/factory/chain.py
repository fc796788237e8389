"""What one part of the factory makes is handed to the next: recipes of a chain, derived and written to files."""

import hashlib
from pathlib import Path
from typing import NamedTuple, TypeVar

import yaml

from caprl_core.errors import BadInputError
from caprl_core.recipe.models import CaptionRecipe, EngineExecution, ModelRecipe, Strict
from caprl_core.recipe.prism import PrismRecipe
from caprl_core.recipe.training import TrainingRecipe
from caprl_core.training.registry import Captioner

ID_DIGITS = 12
"""Of a captioner's digest in names: 48 bits."""

Recipe = TypeVar("Recipe", bound=Strict)


class Trained(NamedTuple):
    """A captioner as the parts after it know it.

    id:     name of the training and a digest of every file of the captioner: another one has another id.
    model:  what rows and identities name; its revision is the digest.
    folder: local copy.
    prompt: the text it was taught to answer.
    """

    id: str
    model: ModelRecipe
    folder: Path
    prompt: str


def trained(captioner: Captioner, folder: Path, dtype: str) -> Trained:
    """A registered captioner with its files in `folder`."""
    record = captioner.record
    listing = "\n".join(f"{file.sha256} {file.size} {file.name}" for file in record.files)
    digest = hashlib.sha256(listing.encode()).hexdigest()[:ID_DIGITS]
    model = ModelRecipe.model_validate({"name": record.name, "revision": digest, "dtype": dtype})
    return Trained(f"{record.name}-{digest}", model, folder, record.prompt.text)


def with_questions(recipe: TrainingRecipe, uri: str, set_id: str, *, held_out: bool) -> TrainingRecipe:
    """Training on an exported set of questions; a set of its own has a run of its own.

    `held_out`: the set has a side that is set apart, which replaces the recipe's own.
    """
    update: dict[str, object] = {"train": f"{uri}/train-*.parquet"}
    if held_out:
        update["held_out"] = f"{uri}/test-*.parquet"
    execution = recipe.execution
    work = None if execution.work is None else f"{execution.work.rstrip('/')}/{set_id}"
    output = f"{execution.output.rstrip('/')}/{set_id}"
    return recipe.model_copy(
        update={
            "questions": recipe.questions.model_copy(update=update),
            "execution": execution.model_copy(update={"output": output, "work": work}),
        }
    )


def captioned_by(recipe: CaptionRecipe, captioner: Trained) -> CaptionRecipe:
    """The dataset by a captioner, below the recipe's output.

    Raises `BadInputError` for another prompt than it was taught, or an engine that cannot load a folder.
    """
    _same_prompt("annotate", recipe.prompt.text, captioner)
    execution = recipe.execution
    engine = _loading("annotate: execution.engine", execution.engine, captioner)
    output = f"{execution.output.rstrip('/')}/{captioner.id}"
    return recipe.model_copy(
        update={
            "model": captioner.model,
            "execution": execution.model_copy(update={"engine": engine, "output": output}),
        }
    )


def evaluated_by(recipe: PrismRecipe, captioner: Trained) -> PrismRecipe:
    """The evaluation of a captioner, below the recipe's output; raises as `captioned_by`."""
    asked, execution = recipe.captioner, recipe.execution
    if asked is None or execution.captioner is None:
        raise BadInputError(f"evaluate: {recipe.name} judges a file of captions; name a captioner, which is replaced")
    _same_prompt("evaluate", asked.prompt.text, captioner)
    engine = _loading("evaluate: execution.captioner", execution.captioner, captioner)
    output = f"{execution.output.rstrip('/')}/{captioner.id}"
    return recipe.model_copy(
        update={
            "captioner": asked.model_copy(update={"model": captioner.model}),
            "execution": execution.model_copy(update={"captioner": engine, "output": output}),
        }
    )


def refuse_broken_chain(train: TrainingRecipe, annotate: CaptionRecipe, evaluate: PrismRecipe) -> None:
    """Raises `BadInputError`, before days of work, for what `captioned_by` and `evaluated_by` would refuse after it."""
    start = Trained(train.name, train.policy.model, Path(), train.policy.prompt.text)
    captioned_by(annotate, start)
    evaluated_by(evaluate, start)


def written(recipe: Recipe, path: Path) -> str:
    """The recipe as a file with every default and every location filled in; its address."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=120)
    path.write_text(text, encoding="utf-8")
    return str(path)


def _same_prompt(part: str, text: str, captioner: Trained) -> None:
    if text != captioner.prompt:
        raise BadInputError(
            f"{part}: the captioner {captioner.id} was taught to answer {captioner.prompt!r}, and the recipe asks "
            f"{text!r}; ask what it was taught, or train it on the other"
        )


def _loading(what: str, engine: EngineExecution, captioner: Trained) -> EngineExecution:
    if engine.kind == "openai":
        raise BadInputError(
            f"{what}: a server holds the model it was started with, so a captioner that has just been trained needs an "
            "engine of this process: kind vllm or transformers"
        )
    return engine.model_copy(update={"model_path": str(captioner.folder)})
