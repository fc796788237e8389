"""The whole factory: questions, a captioner trained on them, a dataset by it, its evaluation, and its publication.

Every part is a flow of its own and resumes by itself, so running this one again goes on where it ended. It publishes
only when the captioner is not worse than the one before, by the paired interval on the same questions.
`python -m flows.build_factory --config FILE` runs it in this process.
"""

if __name__ == "__main__":
    # Before Prefect is imported: it reads its settings and sets up logging at that moment.
    from flows.command_line import build_factory_command

    build_factory_command()

from pathlib import Path
from typing import Any, NamedTuple

from prefect import flow

from caprl_core.factory.chain import (
    Trained,
    captioned_by,
    evaluated_by,
    refuse_broken_chain,
    with_questions,
    written,
)
from caprl_core.prism.compare import Comparison
from caprl_core.recipe.factory import FactoryRecipe
from caprl_core.recipe.load import (
    load_factory_recipe,
    load_prism_recipe,
    load_qa_recipe,
    load_recipe,
    load_training_recipe,
)
from caprl_core.recipe.models import CaptionRecipe
from caprl_core.recipe.prism import PrismRecipe
from caprl_core.recipe.qa import QaRecipe
from caprl_core.recipe.training import TrainingRecipe
from flows.caption_dataset import caption_dataset
from flows.curate_qa import curate_qa
from flows.evaluate_captions import evaluate_captions
from flows.run_names import named_by
from flows.train_captioner import train_captioner
from tasks.publishing import (
    compare_captioners,
    export_questions,
    find_baseline,
    prove_dataset,
    publish_dataset,
    take_captioner,
)


class _Parts(NamedTuple):
    """The recipes of a factory, all read before anything runs."""

    curate: QaRecipe | None
    train: TrainingRecipe
    annotate: CaptionRecipe
    evaluate: PrismRecipe


@flow(name="build-factory", flow_run_name=named_by(load_factory_recipe), persist_result=False)
def build_factory(config: str) -> dict[str, Any]:
    """Run the factory of a recipe, or what is left of it. Returns a summary, `published` telling whether it was.

    `config` is a recipe file that names those of the parts. A captioner that is worse is kept, and its dataset with it,
    but nothing is published.
    """
    recipe = load_factory_recipe(config)
    parts = _Parts(
        None if recipe.curate is None else load_qa_recipe(recipe.curate),
        load_training_recipe(recipe.train),
        load_recipe(recipe.annotate),
        load_prism_recipe(recipe.evaluate),
    )
    refuse_broken_chain(parts.train, parts.annotate, parts.evaluate)
    work = Path(recipe.work).expanduser()
    training, set_id = _training(parts, recipe, work)
    train_captioner(written(training, work / "recipes" / "train.yaml"))
    captioner, new = take_captioner(training, work)
    annotated = captioned_by(parts.annotate, new)
    evaluated = evaluated_by(parts.evaluate, new)
    caption_dataset(written(annotated, work / "recipes" / "annotate.yaml"))
    rows = prove_dataset(annotated)
    results = _evaluated(evaluated, work / "recipes" / "evaluate.yaml")
    baseline = find_baseline(recipe, new.id) or _start(parts, training, new, work)
    comparison = compare_captioners(recipe, baseline, results)
    summary = {
        "name": recipe.name,
        "uri": recipe.publish.output,
        "captioner": captioner.uri,
        "dataset": annotated.execution.output,
        "rows": rows,
        "evaluation": results,
        "baseline": baseline,
        "difference": comparison.macro.difference.model_dump(),
    }
    if not comparison.not_worse(recipe.publish.margin):
        lines = [_line(comparison), f"not published: worse than {comparison.first}, or not surely no worse"]
        return summary | {"published": None, "lines": lines}
    facts = {"captioner": new.id, "captioner_uri": captioner.uri, "questions": set_id, "evaluation": results}
    record = publish_dataset(recipe, annotated, comparison, facts)
    lines = [_line(comparison), f"published: number {record.number}, {record.rows:,} captions by {record.captioner}"]
    return summary | {"published": record.number, "lines": lines}


def _training(parts: _Parts, recipe: FactoryRecipe, work: Path) -> tuple[TrainingRecipe, str | None]:
    """The training on freshly curated questions, with their set's id; as its recipe says where none are curated."""
    if parts.curate is None or recipe.curate is None:
        return parts.train, None
    curate_qa(recipe.curate)
    uri, set_id, held_out = export_questions(parts.curate)
    return with_questions(parts.train, uri, set_id, held_out=held_out), set_id


def _evaluated(recipe: PrismRecipe, path: Path) -> str:
    """Address of the results."""
    summary = evaluate_captions(written(recipe, path))
    return str(summary["stages"]["score"]["uri"])


def _start(parts: _Parts, training: TrainingRecipe, new: Trained, work: Path) -> str:
    """The first time there is nothing to compare with but the captioner that training began with."""
    policy, folder = training.policy.model, training.execution.model_path
    start = Trained(f"start-of-{training.name}", policy, Path(folder or ""), new.prompt)
    recipe = evaluated_by(parts.evaluate, start)
    if folder is None and recipe.execution.captioner is not None:
        engine = recipe.execution.captioner.model_copy(update={"model_path": None})
        recipe = recipe.model_copy(update={"execution": recipe.execution.model_copy(update={"captioner": engine})})
    return _evaluated(recipe, work / "recipes" / "evaluate-start.yaml")


def _line(comparison: Comparison) -> str:
    difference = comparison.macro.difference
    low, high = (f"{end:+.3f}" if end is not None else "?" for end in (difference.low, difference.high))
    return (
        f"{comparison.second} against {comparison.first}: {difference.value:+.3f} ({low} to {high}), "
        f"{comparison.macro.wins:,} questions won, {comparison.macro.losses:,} lost"
    )
