"""From committed answers to a curated set in `curated/<id>/`: the same answers and filter give the same bytes.

The manifest is created last and once, so a set that has one is whole, and a killed run is simply run again.
"""

import io
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import pyarrow.parquet as pq

from caprl_core.data.reasons import Reason
from caprl_core.errors import BadInputError, IncompleteError
from caprl_core.qa.filter import ImageFacts, Verdict, decide
from caprl_core.qa.reasons import QuestionReason
from caprl_core.qa.sets.curated_files import CuratedFile, CuratedWriter, find_set, publish_set
from caprl_core.qa.sets.decontamination import Decontamination, read_decontamination
from caprl_core.qa.sets.stats import CurationStats, stats_of
from caprl_core.recipe.identity import fingerprint, identity
from caprl_core.recipe.models import StorageExecution
from caprl_core.recipe.qa import FilterRecipe
from caprl_core.recipe.qa_stages import ANSWER, EXTRACT, GENERATE
from caprl_core.shards.current import Current, current_commits
from caprl_core.shards.dataset import Dataset
from caprl_core.shards.scratch import scratch_folder
from caprl_core.shards.shard_lines import shard_lines
from caprl_core.storage.publish import read_object
from caprl_core.storage.store import Store

CURATED_VERSION = 1
"""Raised whenever the same input gives other bytes; part of a set's id."""
HELD_ROWS = 100
"""Rows decided before they are written. Whole shards held keep the garbage collector busy: a third of the time."""
USUAL_ROTATIONS = 4
"""Bins of the histogram for an answer dataset whose identity tells no number of rotations."""


class CuratedReport(NamedTuple):
    """A curated set. `fresh` is False when it was there already and its files were verified instead."""

    id: str
    prefix: str
    files: tuple[CuratedFile, ...]
    stats: CurationStats
    fresh: bool


def curate(
    answers: Dataset,
    recipe: FilterRecipe,
    out: Store,
    *,
    extracted: Dataset | None = None,
    generated: Dataset | None = None,
    partial: bool = False,
    storage: StorageExecution | None = None,
    scratch: str | None = None,
    threads: int = 8,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> CuratedReport:
    """Filter the answered questions and write the set to `curated/<id>/` of `out`.

    `extracted` and `generated` are the stages before: with them the funnel and the verdicts tell of what was refused
    and of questions whose image could not be answered. `partial` takes an unfinished answer dataset. `storage` says how
    the decontamination list is reached, `scratch` is the local folder the files are gathered in (None is the system's
    temporary one), `threads` fetch, `progress` is told shards done and in all.

    Raises `IncompleteError` when samples are pending and `partial` is false, `BadInputError` for another kind of
    dataset or a bad list, `StoreError` when what is stored is not what was committed or written.
    """
    given = {GENERATE: generated, EXTRACT: extracted, ANSWER: answers}
    stages = {stage: _Upstream(stage, dataset) for stage, dataset in given.items() if dataset is not None}
    answered = stages[ANSWER]
    if answered.current.pending and not partial:
        raise IncompleteError(
            f"{answers.store.uri}: {answered.current.pending} of {answers.record.samples} samples are still to be "
            "answered; finish with `caprl qa answer`, or curate what is there with --partial"
        )
    listed = read_decontamination(recipe.decontaminate, storage or StorageExecution()) if recipe.decontaminate else None
    description = _description(recipe, listed, stages)
    set_id = fingerprint(description)[:12]
    found = find_set(out, set_id)
    if found is not None:
        stats = CurationStats.from_json(orjson.loads(found.stats))
        return CuratedReport(set_id, found.prefix, found.files, stats, fresh=False)
    with scratch_folder(scratch) as folder:
        stats, files = _write(folder, stages, recipe, listed, threads=threads, progress=progress)
        prefix = publish_set(out, set_id, folder, files, description | {"counts": _counts(stats)})
    return CuratedReport(set_id, prefix, files, stats, fresh=True)


class _Upstream:
    """A stage's dataset and the commits of it that count. Raises `BadInputError` for a dataset of another stage."""

    def __init__(self, stage: str, dataset: Dataset) -> None:
        if dataset.record.stage != stage:
            raise BadInputError(
                f"{dataset.store.uri} is a dataset of the stage {dataset.record.stage!r}, not of {stage!r}"
            )
        self.dataset = dataset
        self.current: Current = current_commits(dataset)

    def description(self) -> dict[str, Any]:
        """What identifies the rows: the fingerprint, and every commit with the digest of its JSONL."""
        commits = {str(record.unit): record.object("jsonl").sha256 for record in self.current.records}
        return {"fingerprint": self.dataset.record.fingerprint, "commits": commits}

    def counts(self) -> dict[str, int]:
        """Samples of the dataset."""
        records = self.current.records
        return {
            "samples": self.dataset.record.samples,
            "rows": sum(record.rows for record in records),
            "rejected": sum(record.rejected for record in records),
            "pending": self.current.pending,
        }

    def rejected(self) -> dict[str, int]:
        """Reason -> samples."""
        totals: dict[str, int] = {}
        for record in self.current.records:
            for reason, count in record.reasons.items():
                totals[reason] = totals.get(reason, 0) + count
        return dict(sorted(totals.items()))


def _description(
    recipe: FilterRecipe, listed: Decontamination | None, stages: Mapping[str, _Upstream]
) -> dict[str, Any]:
    """All that decides the bytes of the set; where the list of images lies does not, what it says does."""
    return {
        "curated_version": CURATED_VERSION,
        "filter": {**identity(recipe), "decontaminate": listed.content if listed else None},
        "stages": {stage: upstream.description() for stage, upstream in stages.items()},
    }


def _write(
    folder: Path,
    stages: Mapping[str, _Upstream],
    recipe: FilterRecipe,
    listed: Decontamination | None,
    *,
    threads: int,
    progress: Callable[[int, int], None],
) -> tuple[CurationStats, tuple[CuratedFile, ...]]:
    total = sum(len(stages[stage].current.records) for stage in (ANSWER, EXTRACT) if stage in stages)
    done = 0
    stats = CurationStats(_rotations(stages[ANSWER].dataset))
    with ExitStack() as cleanup:
        writer = cleanup.enter_context(CuratedWriter(folder))
        for part in _answered(stages[ANSWER], recipe, listed, writer, threads):
            stats = stats.merged(part)
            progress(done := done + 1, total)
        if EXTRACT in stages:
            lost = _unanswerable(stages[ANSWER], threads)
            taken = 0
            for part, questions in _extracted(stages[EXTRACT], lost, stats.rotations, writer, threads):
                stats = stats.merged(part)
                taken += questions
                progress(done := done + 1, total)
            stats = replace(stats, waiting=max(0, taken - stats.parsed))
    stats = replace(
        stats,
        stages={stage: upstream.counts() for stage, upstream in stages.items()},
        rejected={stage: upstream.rejected() for stage, upstream in stages.items()},
    )
    return stats, writer.finished(stats)


def _answered(
    answers: _Upstream,
    recipe: FilterRecipe,
    listed: Decontamination | None,
    writer: CuratedWriter,
    threads: int,
) -> Iterator[CurationStats]:
    """Decide on every answered question, shard by shard."""
    rotations = _rotations(answers.dataset)
    unwanted = listed.images if listed else frozenset[str]()
    for shard in shard_lines(answers.dataset.store, answers.current.records, threads=threads):
        stats = CurationStats(rotations)
        for start in range(0, len(shard.lines), HELD_ROWS):
            judged: list[tuple[dict[str, Any], list[Verdict]]] = []
            for line in shard.lines[start : start + HELD_ROWS]:
                row = orjson.loads(line)
                digest = row["image_sha256"]
                verdicts = decide(row["questions"], ImageFacts(digest, digest in unwanted), recipe)
                for question in row["questions"]:
                    del question["visual"], question["text"]  # counted, and most of the row
                judged.append((row, verdicts))
            writer.write(judged)
            stats = stats.merged(stats_of(((row["questions"], verdicts) for row, verdicts in judged), rotations))
        yield stats


def _extracted(
    extracted: _Upstream, lost: frozenset[str], rotations: int, writer: CuratedWriter, threads: int
) -> Iterator[tuple[CurationStats, int]]:
    """Shard by shard, what extraction refused and whose image was lost, and the number of questions taken over."""
    for shard in shard_lines(extracted.dataset.store, extracted.current.records, threads=threads):
        refused: dict[str, int] = {}
        taken = unanswered = 0
        lines: list[tuple[str, str | None, int | None, str]] = []
        for line in shard.lines:
            row = orjson.loads(line)
            key = row["key"]
            taken += len(row["questions"])
            for piece in row["refused"]:
                reason = piece["reason"]
                refused[reason] = refused.get(reason, 0) + 1
                lines.append((key, None, piece["number"], reason))
            if key in lost:
                unanswered += len(row["questions"])
                reason = QuestionReason.UNANSWERED.value
                lines += [(key, question["id"], None, reason) for question in row["questions"]]
        writer.write_refused(lines)
        reasons = {QuestionReason.UNANSWERED.value: unanswered} if unanswered else {}
        yield CurationStats(rotations, refused=refused, parsed=unanswered, reasons=reasons), taken


def _unanswerable(answers: _Upstream, threads: int) -> frozenset[str]:
    """Keys of the samples the answer stage had to give up although they have questions."""
    store = answers.dataset.store
    records = [
        record for record in answers.current.records if record.rejected > record.reasons.get(Reason.NO_QUESTION, 0)
    ]
    with ThreadPoolExecutor(threads, thread_name_prefix="caprl-ledgers") as pool:
        ledgers = pool.map(lambda record: read_object(store, record.object("ledger")), records)
        keys: list[list[str]] = [_given_up(ledger) for ledger in ledgers]
    return frozenset(key for some in keys for key in some)


def _given_up(ledger: bytes) -> list[str]:
    table = pq.read_table(io.BytesIO(ledger), columns=["key", "status", "reason"])
    lines = zip(*(table.column(name).to_pylist() for name in ("key", "status", "reason")), strict=True)
    return [key for key, status, reason in lines if status == "rejected" and reason != Reason.NO_QUESTION]


def _rotations(answers: Dataset) -> int:
    return int(answers.record.identity.get("answerer", {}).get("rotations", USUAL_ROTATIONS))


def _counts(stats: CurationStats) -> dict[str, Any]:
    return {"questions": stats.kept, "images": stats.images_kept, "waiting": stats.waiting}
