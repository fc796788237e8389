"""Results of runs made by hand: scores as given, and the files that `finish` writes, without asking anybody."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from caprl_core.prism.results.accounting import ImageCounts
from caprl_core.prism.results.measuring import measure
from caprl_core.prism.results.run_files import RESULT, SCORES_FILE, FoundRun, read_run, scores_bytes
from caprl_core.prism.results.run_result import CaptionsFrom, JudgedBy, RunResult
from caprl_core.prism.results.scoring import CAPTIONS, SCORES, SCORING_VERSION, Scored
from caprl_core.recipe.prism import BenchmarkRecipe, IntervalsRecipe
from caprl_core.storage.store import Store

Points = Mapping[str, Mapping[str, Mapping[str, Sequence[float | None]]]]
"""Benchmark -> image -> question -> points of its captions; None for a request that failed."""

JUDGE: dict[str, Any] = {
    "model": {"name": "lab/judge", "revision": "abc"},
    "prompt": {"id": "choice", "text": "{caption} {question}"},
    "open_prompt": {"id": "open", "text": "{caption} {question}"},
    "sampling": {"temperature": 0.0, "seed": 0},
    "abstain": None,
}


def scored_points(points: Points, *, scorer: str = "choice", asked: str = "digest", released: bool = False) -> Scored:
    """The columns of scoring. Answers with points were read as B, and half a point as abstaining; captions are ten
    characters longer than the one before, the last of several cut."""
    answers, captions = [], []
    for benchmark, images in points.items():
        for image, questions in images.items():
            count = max(map(len, questions.values()))
            facts = [(100 + 10 * number, 500 + 10 * number, number == count - 1 > 0) for number in range(count)]
            captions += [(benchmark, image, *fact) for fact in facts]
            for question, earned in questions.items():
                for number, one in enumerate(earned):
                    read = None if one is None else "abstained" if one == 0.5 else "B" if one else None
                    about = (benchmark, image, question, asked, number, scorer)
                    answers.append(
                        (*about, one, one if released else None, read, one is None, *facts[number], 7, False)
                    )
    return Scored(_table(answers, SCORES), _table(captions, CAPTIONS), ("scripted 1.2",))


def made_result(
    points: Points,
    name: str = "lab/captioner",
    *,
    scorer: str = "choice",
    judge: Mapping[str, Any] = {},
    asked: str = "digest",
    released: str | None = None,
    draws: int = 400,
    **changes: Any,
) -> tuple[RunResult, Scored]:
    """A result of these points; `judge` and `changes` replace fields of the judge and of the result."""
    scored = scored_points(points, scorer=scorer, asked=asked, released=released is not None)
    rules = IntervalsRecipe(draws=draws)
    benchmarks = [
        BenchmarkRecipe(name=one, form="questions", uri="x", scorer=scorer, released=released)  # type: ignore[arg-type]
        for one in points
    ]
    counts = {one: ImageCounts(len(images), len(images), 0, {}) for one, images in points.items()}
    measured = measure(scored, benchmarks, counts, rules)
    fields: dict[str, Any] = {
        "scoring_version": SCORING_VERSION,
        "id": hashlib.sha256(name.encode("utf-8", "replace")).hexdigest()[:12],
        "run": "drawn",
        "judged": "2026-11-21T12:00:00+00:00",
        "partial": False,
        "captions": CaptionsFrom(
            kind="file", name=name, captioner=None, file="captions.jsonl", file_sha256="0" * 64, engines=()
        ),
        "judge": JudgedBy(**(JUDGE | dict(judge)), engines=scored.engines),
        "intervals": rules,
        "datasets": {"captions": "a" * 64, "judge": "b" * 64},
        "scores_sha256": hashlib.sha256(scores_bytes(scored.answers)).hexdigest(),
        "benchmarks": measured.benchmarks,
        "macro": measured.macro,
    }
    return RunResult(**(fields | changes)), scored


def made_run(folder: Path, points: Points, name: str = "lab/captioner", **changes: Any) -> FoundRun:
    """The same in a folder."""
    result, scored = made_result(points, name, **changes)
    store = Store(str(folder))
    store.put(SCORES_FILE, scores_bytes(scored.answers))
    store.put(RESULT, result.model_dump_json().encode())
    return read_run(str(folder))


def _table(rows: Sequence[tuple[Any, ...]], schema: pa.Schema) -> pa.Table:
    columns = list(zip(*rows, strict=True)) or [()] * len(schema)
    arrays = [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)]
    return pa.Table.from_arrays(arrays, schema=schema)
