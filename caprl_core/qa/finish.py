"""The last step of a curation: filter the answered questions, write the set, its statistics and its page."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any, NamedTuple

import orjson

from caprl_core.errors import BadInputError, ObjectMissingError
from caprl_core.qa.filter import ImageFacts, Verdict, decide
from caprl_core.qa.page.examples import Example, choose_examples
from caprl_core.qa.page.report_page import curation_page
from caprl_core.qa.sets.curated import CuratedReport, curate
from caprl_core.qa.sets.curated_files import FOLDER, STATS
from caprl_core.qa.sets.decontamination import read_decontamination
from caprl_core.qa.sets.kept_images import KeptImages
from caprl_core.qa.sets.stats import CurationStats
from caprl_core.recipe.qa import FilterRecipe, QaRecipe
from caprl_core.recipe.qa_stages import answer_recipe, extract_recipe, generate_recipe
from caprl_core.shards.current import current_commits
from caprl_core.shards.dataset import Dataset, open_dataset
from caprl_core.shards.shard_lines import shard_lines
from caprl_core.storage.store import Store

PAGE = "report.html"
EXAMPLE_SHARDS = 4
"""Shards the examples of the page come from, spread over the set: reading all of them again would double the time."""


class Stages(NamedTuple):
    """The datasets of a set, opened with their recipes, so that another recipe is refused with its fields named."""

    generated: Dataset | None
    extracted: Dataset
    answered: Dataset

    @property
    def images(self) -> Dataset:
        """The one whose tars carry the images."""
        return self.generated or self.extracted


class Finished(NamedTuple):
    """What `finish` wrote."""

    out: Store
    report: CuratedReport

    @property
    def stats(self) -> CurationStats:
        """The counts."""
        return self.report.stats

    def summary(self) -> dict[str, Any]:
        """Plain figures for logs and scripts."""
        return {
            "uri": f"{self.out.uri}/{self.report.prefix}",
            "page": f"{self.out.uri}/{self.report.prefix}/{PAGE}",
            "set": self.report.id,
            "questions": self.stats.funnel["written"],
            "kept": sum(self.stats.kept.values()),
            "images_kept": sum(self.stats.images_kept.values()),
            "fresh": self.report.fresh,
        }


def open_stages(recipe: QaRecipe) -> Stages:
    """Open the datasets of a set. Raises `BadInputError` for a stage that has not run, `IdentityMismatchError`."""
    storage = recipe.execution.storage
    generated = None
    if not recipe.imports:
        own = generate_recipe(recipe)
        generated = open_dataset(Store(own.execution.output, storage), own)
    extraction = extract_recipe(recipe, generated.record.fingerprint if generated else None)
    extracted = open_dataset(Store(extraction.execution.output, storage), extraction)
    answering = answer_recipe(recipe, extracted.record.fingerprint)
    answered = open_dataset(Store(answering.execution.output, storage), answering)
    return Stages(generated, extracted, answered)


def finish(
    recipe: QaRecipe,
    chosen: FilterRecipe | None = None,
    *,
    partial: bool = False,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Finished:
    """Filter with `chosen`, or else the recipe's own filter; the same filter again finds the set it made.

    Raises `IncompleteError` while images are pending unless `partial`, and whatever `open_stages` and `curate` raise.
    """
    rules = chosen or recipe.filter
    if rules.confident and recipe.answerer.mode == "logprob":
        raise BadInputError(
            "filter.confident: replies read as probabilities have no interval, so nothing could be kept; leave it off, "
            "or answer with answerer.mode: sampled"
        )
    stages = open_stages(recipe)
    out = Store(recipe.execution.output, recipe.execution.storage)
    report = curate(
        stages.answered,
        rules,
        out,
        extracted=stages.extracted,
        generated=stages.generated,
        partial=partial,
        storage=recipe.execution.storage,
        scratch=recipe.execution.runner.spool_dir,
        progress=progress,
    )
    page = f"{report.prefix}/{PAGE}"
    if report.fresh or out.size(page) is None:
        provenance = _provenance(recipe, stages, report.id)
        out.put(page, curation_page(report.stats, _examples(recipe, stages, rules), provenance, rules=rules))
    return Finished(out, report)


def _examples(recipe: QaRecipe, stages: Stages, rules: FilterRecipe) -> Sequence[Example]:
    places: dict[str, tuple[str, str]] = {}
    unwanted = frozenset[str]()
    if rules.decontaminate is not None:
        unwanted = read_decontamination(rules.decontaminate, recipe.execution.storage).images

    def judged() -> Iterator[tuple[str, Sequence[Mapping[str, Any]], Sequence[Verdict]]]:
        records = current_commits(stages.answered).records
        step = max(1, len(records) // EXAMPLE_SHARDS)
        for shard in shard_lines(stages.answered.store, records[::step][:EXAMPLE_SHARDS], threads=EXAMPLE_SHARDS):
            for line in shard.lines:
                row = orjson.loads(line)
                places[row["key"]] = (row["image"], row["image_sha256"])
                facts = ImageFacts(row["image_sha256"], row["image_sha256"] in unwanted)
                yield row["key"], row["questions"], decide(row["questions"], facts, rules)

    with closing(KeptImages(stages.images.store, recipe.execution.storage)) as images:
        return choose_examples(judged(), lambda key: images.read(*places[key]))


def _provenance(recipe: QaRecipe, stages: Stages, set_id: str) -> dict[str, str]:
    answerer = recipe.answerer
    found = {"set": f"{recipe.name} {set_id}"}
    if recipe.writer is not None:
        found["writer"] = _model(recipe.writer.model.name, recipe.writer.model.revision)
        found["writer's prompt"] = recipe.writer.prompt.id
    found["answerer"] = _model(answerer.model.name, answerer.model.revision)
    found["answerer's prompt"] = answerer.prompt.id
    found["orders of the options"] = str(answerer.rotations)
    found["reading of replies"] = answerer.mode
    for name, dataset in zip(Stages._fields, stages, strict=True):
        if dataset is not None:
            found[f"{name}: fingerprint"] = dataset.record.fingerprint
    return found


def _model(name: str, revision: str | None) -> str:
    return f"{name} @ {revision}" if revision else f"{name} (no revision pinned)"


def newest_set(recipe: QaRecipe, out: Store) -> str:
    """The id of the curated set written last. Raises `BadInputError` when there is none."""
    manifests = [item for item in out.list(FOLDER) if item.key.endswith("/manifest.json")]
    if not manifests:
        raise BadInputError(f"{out.uri}: no curated set of {recipe.name} yet; run `caprl qa filter` first")
    return max(manifests, key=lambda item: (item.modified, item.key)).key.split("/")[1]


def read_stats(recipe: QaRecipe, curated: str | None) -> CurationStats:
    """The statistics of a curated set, the newest if none is named. Raises `BadInputError` when it is not there."""
    out = Store(recipe.execution.output, recipe.execution.storage)
    chosen = curated or newest_set(recipe, out)
    try:
        return CurationStats.from_json(orjson.loads(out.get(f"{FOLDER}/{chosen}/{STATS}")))
    except ObjectMissingError as error:
        raise BadInputError(f"{out.uri}: no curated set {chosen!r}") from error


def stats_lines(stats: CurationStats) -> list[str]:
    """The funnel and the reasons, for a terminal."""
    lines = [f"{step.replace('_', ' '):<28}{count:>12,}" for step, count in stats.funnel.items()]
    images = [(stage, reason, n) for stage, some in stats.rejected.items() for reason, n in some.items()]
    lines += [f"  images: {stage}, {reason:<24}{count:>8,}" for stage, reason, count in images]
    lines += [f"  not taken over: {reason:<18}{count:>6,}" for reason, count in stats.refused.items()]
    lines += [f"  not kept: {reason:<24}{count:>6,}" for reason, count in stats.reasons.items()]
    if stats.blind_pass_chance is not None:
        lines.append(
            f"a blind guesser passes the text filter with probability {stats.blind_pass_chance:.2f}; "
            f"of the questions that pass with the image about {stats.expected_leaks:,.0f} would pass it by guessing"
        )
    return lines
