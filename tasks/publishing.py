"""The tasks between the parts of the factory: handing on questions and captioner, proving, comparing, publishing."""

from pathlib import Path
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from caprl_core.errors import StoreError
from caprl_core.factory.chain import Trained, trained
from caprl_core.factory.publication import Publication, publications, publish, published_before
from caprl_core.prism.compare import Comparison, compare
from caprl_core.qa.finish import newest_set, open_stages, read_stats
from caprl_core.qa.sets.released import write_released
from caprl_core.recipe.factory import FactoryRecipe
from caprl_core.recipe.models import CaptionRecipe
from caprl_core.recipe.qa import QaRecipe
from caprl_core.recipe.training import TrainingRecipe
from caprl_core.shards.dataset import open_dataset
from caprl_core.shards.verify import verify
from caprl_core.storage.store import Store
from caprl_core.training.registry import Captioner, find_captioner, local_captioner
from tasks.retrying import RETRIES, backoff, worth_retrying

_PATIENT: dict[str, Any] = {
    "retries": RETRIES,
    "retry_delay_seconds": backoff,
    "retry_condition_fn": worth_retrying,
    "persist_result": False,
    "cache_policy": NO_CACHE,
}


@task(name="export-questions", task_run_name="export questions", tags={"factory"}, **_PATIENT)
def export_questions(recipe: QaRecipe) -> tuple[str, str, bool]:
    """Write the newest curated set with its images; returns address, id, and whether it has a side set apart."""
    sets = Store(recipe.execution.output, recipe.execution.storage)
    chosen = newest_set(recipe, sets)
    uri = f"{recipe.execution.output.rstrip('/')}/exported/{chosen}"
    images, out = open_stages(recipe).images.store, Store(uri, recipe.execution.storage)
    kept = read_stats(recipe, chosen).images_kept
    held_out = bool(kept.get("held_out"))
    write_released(sets, chosen, images, out, storage=recipe.execution.storage)
    if held_out:
        write_released(sets, chosen, images, out, split="held_out", storage=recipe.execution.storage)
    return uri, chosen, held_out


@task(name="take-captioner", task_run_name="take captioner", tags={"factory"}, **_PATIENT)
def take_captioner(recipe: TrainingRecipe, work: Path) -> tuple[Captioner, Trained]:
    """The registered captioner of a training, every byte checked, with a local copy of its files."""
    captioner = find_captioner(recipe.execution.output, recipe.execution.storage)
    named = trained(captioner, work, recipe.policy.model.dtype)
    folder = local_captioner(captioner, work / "captioners" / named.id)
    return captioner, named._replace(folder=folder)


@task(name="prove-dataset", task_run_name="prove dataset", tags={"factory"}, **_PATIENT)
def prove_dataset(recipe: CaptionRecipe) -> int:
    """Prove from the bucket that nothing is lost, doubled or changed, to the byte; returns the rows."""
    store = Store(recipe.execution.output, recipe.execution.storage)
    report = verify(open_dataset(store, recipe), deep=True)
    if not report.sound or report.pending:
        problems = "; ".join(report.problems[:5]) or f"{report.pending} samples are pending"
        raise StoreError(f"{store.uri} is not what was committed, so it is not published: {problems}")
    return report.rows


@task(name="compare-captioners", task_run_name="compare", tags={"factory"}, **_PATIENT)
def compare_captioners(recipe: FactoryRecipe, baseline: str, results: str) -> Comparison:
    """The new results against those of the baseline, question by question."""
    return compare(baseline, results, storage=recipe.storage)


@task(name="publish-dataset", task_run_name="publish", tags={"factory"}, **_PATIENT)
def publish_dataset(
    recipe: FactoryRecipe, annotated: CaptionRecipe, comparison: Comparison, facts: dict[str, Any]
) -> Publication:
    """Publish; the same dataset again is no second publication."""
    store = Store(recipe.publish.output, recipe.storage)
    dataset = open_dataset(Store(annotated.execution.output, annotated.execution.storage), annotated)
    if (known := published_before(store, dataset.record.fingerprint, facts["captioner"])) is not None:
        return known
    return publish(
        store,
        dataset,
        comparison,
        facts,
        licence=recipe.publish.licence,
        storage=recipe.storage,
        scratch=annotated.execution.runner.spool_dir,
    )


@task(name="find-baseline", task_run_name="baseline", tags={"factory"}, **_PATIENT)
def find_baseline(recipe: FactoryRecipe, captioner: str) -> str | None:
    """Results to be compared with: those named, or of the newest publication by another captioner; None if none."""
    if recipe.publish.baseline is not None:
        return recipe.publish.baseline
    earlier = [one for one in publications(Store(recipe.publish.output, recipe.storage)) if one.captioner != captioner]
    return earlier[-1].evaluation if earlier else None
