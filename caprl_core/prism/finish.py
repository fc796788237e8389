"""The last step of an evaluation: score the judge's replies and write figures, tables and the page."""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import orjson

from caprl_core.errors import BadInputError, IncompleteError
from caprl_core.prism.page.choosing import choose_answers
from caprl_core.prism.page.examples import read_examples
from caprl_core.prism.page.pictures import read_pictures
from caprl_core.prism.page.prism_page import prism_page
from caprl_core.prism.results.accounting import Account, account
from caprl_core.prism.results.measuring import measure
from caprl_core.prism.results.provenance import captions_from, judged_by
from caprl_core.prism.results.run_files import (
    FOLDER,
    LATEX,
    MARKDOWN,
    PAGE,
    RESULT,
    SCORES_FILE,
    FoundRun,
    read_result,
    scores_bytes,
)
from caprl_core.prism.results.run_result import RunResult
from caprl_core.prism.results.scoring import SCORING_VERSION, Scored, score_rows
from caprl_core.prism.results.tables import run_tables
from caprl_core.prism.results.typeset import as_latex, as_markdown, as_text
from caprl_core.prism.stages import caption_recipe, judge_recipe
from caprl_core.recipe.identity import fingerprint
from caprl_core.recipe.models import StageRecipe
from caprl_core.recipe.prism import PrismRecipe
from caprl_core.shards.current import Current, current_commits
from caprl_core.shards.dataset import Dataset, has_dataset, open_dataset
from caprl_core.shards.shard_lines import shard_lines
from caprl_core.storage.store import Store

THREADS = 4
"""Shards of replies fetched at once: they are scored by one thread."""


class Stages(NamedTuple):
    """The datasets of an evaluation, opened with their recipes, so that another recipe is refused with its fields
    named."""

    captions: Dataset
    judge: Dataset


class Judged(NamedTuple):
    """What there is to score: the datasets, their commits that count (captions, judge), and what became of images."""

    stages: Stages
    current: tuple[Current, Current]
    images: Account


class Finished(NamedTuple):
    """What `finish` wrote or found. `fresh` is False when these results were there already."""

    out: Store
    prefix: str
    result: RunResult
    fresh: bool

    @property
    def folder(self) -> str:
        """Where the files are."""
        return f"{self.out.uri}/{self.prefix}"

    @property
    def run(self) -> FoundRun:
        """For comparisons."""
        return FoundRun(self.result, self.out, self.prefix)

    def summary(self) -> dict[str, Any]:
        """Plain figures for logs and scripts; shares are 0 to 1."""
        macro = self.result.macro
        return {
            "uri": self.folder,
            "page": f"{self.folder}/{PAGE}",
            "result": self.result.id,
            "captions_of": self.result.captions.name,
            "mean": None if macro.mean is None else macro.mean.model_dump(),
            "best": None if macro.best is None else macro.best.model_dump(),
            "benchmarks": {one.name: None if one.mean is None else one.mean.value for one in self.result.benchmarks},
            "questions": sum(one.questions for one in self.result.benchmarks),
            "failed": sum(one.failed for one in self.result.benchmarks),
            "pending": sum(one.images.pending for one in self.result.benchmarks),
            "partial": self.result.partial,
            "fresh": self.fresh,
        }

    def text(self) -> str:
        """The tables for a terminal."""
        return "\n".join(as_text(table) for table in run_tables(self.result))


def open_stages(recipe: PrismRecipe) -> Stages:
    """Open the datasets of an evaluation.

    Raises `BadInputError` for a stage that has not begun, `IdentityMismatchError` for one of another recipe.
    """
    storage = recipe.execution.storage
    first = caption_recipe(recipe)
    captions = _opened(Store(first.execution.output, storage), first)
    second = judge_recipe(recipe, captions.record.fingerprint)
    return Stages(captions, _opened(Store(second.execution.output, storage), second))


def _opened(store: Store, recipe: StageRecipe) -> Dataset:
    if not has_dataset(store):
        raise BadInputError(f"{store.uri}: this stage has not begun; run `caprl prism run` first")
    return open_dataset(store, recipe)


def finish(
    recipe: PrismRecipe,
    *,
    partial: bool = False,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Finished:
    """Score what has been judged and write `results/<id>/` below the evaluation's output; the same replies, scorers and
    intervals find the results they made.

    `progress` is told shards done and in all. Raises `IncompleteError` while images are pending unless `partial`,
    whatever `open_stages` raises, and `StoreError` when what is stored is not what was committed.
    """
    judged = _judged(recipe)
    images = judged.images
    if images.pending and not partial:
        raise IncompleteError(
            f"{recipe.execution.output}: {images.pending} of {images.planned} images are still to be judged; finish "
            "with `caprl prism run`, or score what is there with --partial"
        )
    out = Store(recipe.execution.output, recipe.execution.storage)
    run_id = _id(recipe, judged)
    prefix = f"{FOLDER}/{run_id}"
    result = read_result(out, prefix)
    fresh = result is None
    if result is None or out.size(f"{prefix}/{PAGE}") is None:
        scored = score_rows(_rows(judged, progress), recipe.benchmarks)
        data = scores_bytes(scored.answers)
        result = _result(recipe, judged, scored, run_id, hashlib.sha256(data).hexdigest())
        out.put(f"{prefix}/{SCORES_FILE}", data)
        tables = run_tables(result)
        out.put(f"{prefix}/{MARKDOWN}", "\n".join(map(as_markdown, tables)).encode())
        out.put(f"{prefix}/{LATEX}", "\n".join(map(as_latex, tables)).encode())
        out.put(f"{prefix}/{PAGE}", _page(recipe, judged, scored, result))
        # Last: who finds it finds the others.
        out.put(f"{prefix}/{RESULT}", result.model_dump_json(indent=1).encode())
    return Finished(out, prefix, result, fresh)


def _judged(recipe: PrismRecipe) -> Judged:
    stages = open_stages(recipe)
    current = (current_commits(stages.captions), current_commits(stages.judge))
    return Judged(stages, current, account(stages.captions, stages.judge, current))


def _id(recipe: PrismRecipe, judged: Judged) -> str:
    """Of all that decides the figures."""
    return fingerprint(
        {
            "scoring_version": SCORING_VERSION,
            "scoring": [[one.name, one.scorer, one.open_scorer, one.released] for one in recipe.benchmarks],
            "intervals": recipe.intervals.model_dump(),
            "captions_of": recipe.captions_of,
            "datasets": [dataset.record.fingerprint for dataset in judged.stages],
            "commits": [
                {str(record.unit): record.object("jsonl").sha256 for record in current.records}
                for current in judged.current
            ],
        }
    )[:12]


def _rows(judged: Judged, progress: Callable[[int, int], None]) -> Iterator[Iterator[Mapping[str, Any]]]:
    records = judged.current[1].records
    for done, shard in enumerate(shard_lines(judged.stages.judge.store, records, threads=THREADS), start=1):
        yield map(orjson.loads, shard.lines)
        progress(done, len(records))


def _result(recipe: PrismRecipe, judged: Judged, scored: Scored, run_id: str, scores_sha256: str) -> RunResult:
    measured = measure(scored, recipe.benchmarks, judged.images.counts, recipe.intervals)
    return RunResult(
        scoring_version=SCORING_VERSION,
        id=run_id,
        run=recipe.name,
        judged=max((record.created for record in judged.current[1].records), default=""),
        partial=judged.images.pending > 0,
        captions=captions_from(recipe, judged.stages.captions, judged.current[0]),
        judge=judged_by(recipe, scored.engines),
        intervals=recipe.intervals,
        datasets={dataset.record.stage: dataset.record.fingerprint for dataset in judged.stages},
        scores_sha256=scores_sha256,
        benchmarks=measured.benchmarks,
        macro=measured.macro,
    )


def _page(recipe: PrismRecipe, judged: Judged, scored: Scored, result: RunResult) -> bytes:
    chosen = choose_answers(scored.answers, [one.name for one in recipe.benchmarks], seed=recipe.intervals.seed)
    upstream = judged.stages.captions.record.fingerprint
    examples = read_examples(
        judged.stages.judge,
        judged.current[1],
        judged.images.shards,
        chosen,
        lambda wanted: read_pictures(recipe, upstream, wanted),
    )
    return prism_page(result, examples)
