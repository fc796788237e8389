"""Both stages by the real runner, then scored: figures that add up, results that are found again, nothing half done."""

import hashlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from caprl_core.errors import BadInputError, IdentityMismatchError, IncompleteError
from caprl_core.prism.compare import compare_runs
from caprl_core.prism.finish import Finished, finish
from caprl_core.prism.results.run_result import RunResult
from caprl_core.prism.results.scoring import SCORES
from caprl_core.recipe.prism import PrismRecipe
from caprl_core.storage.store import Store
from support.judged_prism import (
    About,
    Said,
    ScriptedEngine,
    prism_recipe,
    right,
    run_captions,
    run_judge,
    run_prism,
    write_captions,
    write_questions,
)

Judge = Callable[[About], Said]
BOTH = {"colours": {"scorer": "choice"}, "numbers": {"scorer": "match"}}


def evaluated(folder: Path, judge: Judge = right, **changes: Any) -> PrismRecipe:
    """12 pictures with three questions of options, 8 with two open ones; four captions each."""
    write_questions(folder, "colours", 12, 3)
    write_questions(folder, "numbers", 8, 2)
    return run_prism(prism_recipe(folder, BOTH, **changes), judge)


def even(about: About) -> Said:
    """Every other answer is right: the mean is a half, and of two captions one is."""
    wrong = Said("Answer: C" if about.benchmark == "colours" else "Answer: eight")
    return right(about) if (about.caption + about.question) % 2 == 0 else wrong


def figures(finished: Finished) -> dict[str, Any]:
    return {one.name: one for one in finished.result.benchmarks}


# The figures


def test_mean_and_best_are_those_of_the_answers(tmp_path: Path) -> None:
    finished = finish(evaluated(tmp_path, even))
    for one in finished.result.benchmarks:
        assert one.mean is not None and one.mean.value == 0.5
        assert one.best is not None and one.best.value == 1.0
        # Two captions of four, two of which are right: none of them is in one draw of six.
        assert [(best.captions, best.score.value) for best in one.best_of] == [(1, 0.5), (2, 0.833333), (4, 1.0)]
        assert (one.captions.least, one.captions.most) == (4, 4)
        assert one.captions.truncated == 0.25  # the captioner's second caption of each image
        assert one.captions.tokens.mean == 5
    colours, numbers = finished.result.benchmarks
    assert (colours.images.judged, colours.questions, colours.answers) == (12, 36, 144)
    assert (numbers.images.judged, numbers.questions, numbers.answers) == (8, 16, 64)
    assert finished.result.macro.mean is not None and finished.result.macro.mean.value == 0.5
    assert (finished.result.macro.benchmarks, finished.result.macro.released_mean) == (2, None)


def test_failed_requests_are_missing_and_not_wrong(tmp_path: Path) -> None:
    def judge(about: About) -> Said:
        return Said("", failed=True) if about.caption == 3 else right(about)

    found = figures(finish(evaluated(tmp_path, judge)))
    assert found["colours"].mean.value == 1.0
    assert (found["colours"].failed, found["colours"].answers, found["colours"].unparsed) == (36, 108, 0.0)


def test_answers_nobody_could_read_are_counted_apart_and_earn_nothing(tmp_path: Path) -> None:
    def judge(about: About) -> Said:
        unclear = Said("Hard to tell.", "length") if about.benchmark == "colours" else Said("")
        return unclear if about.caption == 0 else right(about)

    found = figures(finish(evaluated(tmp_path, judge)))
    for one in found.values():
        assert (one.unparsed, one.mean.value, one.failed) == (0.25, 0.75, 0)
    assert (found["colours"].judge_truncated, found["numbers"].judge_truncated) == (0.25, 0.0)


def test_abstaining_is_no_unread_answer(tmp_path: Path) -> None:
    def judge(about: About) -> Said:
        return Said("Answer: E") if about.question == 0 else right(about)

    recipe = evaluated(tmp_path, judge, judge__abstain="Cannot be told")
    colours = figures(finish(recipe))["colours"]
    assert (colours.abstained, colours.unparsed) == (pytest.approx(1 / 3, abs=1e-6), 0.0)
    assert colours.mean.value == pytest.approx(2 / 3, abs=1e-6)


def test_the_released_rules_stand_beside_ours(tmp_path: Path) -> None:
    def judge(about: About) -> Said:
        boxed = Said("</think> <answer>\\boxed{B}</answer>")
        return boxed if about.caption < 2 else Said("Answer: B")

    write_questions(tmp_path, "colours", 12, 2)
    write_questions(tmp_path, "numbers", 8, 2)
    benchmarks = {"colours": {"scorer": "choice", "released": "math"}, "numbers": {"scorer": "match"}}
    finished = finish(run_prism(prism_recipe(tmp_path, benchmarks), judge))
    colours, numbers = finished.result.benchmarks
    assert colours.mean is not None and colours.mean.value == 1.0
    assert colours.released_mean is not None and colours.released_mean.value == 0.5
    assert colours.released_best is not None and colours.released_best.value == 1.0
    assert numbers.released_mean is None
    macro = finished.result.macro
    assert (macro.benchmarks, macro.released_benchmarks) == (2, 1)
    assert macro.released_mean is not None and macro.released_mean.value == 0.5


def test_a_benchmark_without_any_answer_has_no_score(tmp_path: Path) -> None:
    def judge(about: About) -> Said:
        return Said("", failed=about.benchmark == "numbers") if about.benchmark == "numbers" else right(about)

    finished = finish(evaluated(tmp_path, judge))
    numbers = figures(finished)["numbers"]
    assert (numbers.mean, numbers.best_of, numbers.images.judged) == (None, (), 0)
    assert numbers.images.rejected == {"judge": {"request_failed": 8}}
    assert finished.result.macro.benchmarks == 1
    assert "—" in finished.text()


# Images


def test_every_image_is_judged_rejected_or_pending(tmp_path: Path) -> None:
    write_questions(tmp_path, "colours", 12, 2)
    write_questions(tmp_path, "numbers", 9, 2)
    (tmp_path / "pictures" / "colours-3.png").write_bytes(b"no picture")
    (tmp_path / "pictures" / "numbers-1.png").unlink()
    recipe = prism_recipe(tmp_path, BOTH)

    failed = set()

    def judge(about: About) -> Said:
        """One image of the colours gets no reply at all."""
        if about.benchmark == "colours" and not failed:
            failed.add(about.image)
        return Said("", failed=True) if about.image in failed else right(about)

    run_captions(recipe)
    run_judge(recipe, ScriptedEngine(judge), shards=3)
    with pytest.raises(IncompleteError, match=r"4 of 21 images are still to be judged; finish with `caprl prism run`"):
        finish(recipe)
    finished = finish(recipe, partial=True)
    assert finished.result.partial and finished.summary()["pending"] == 4
    for one in finished.result.benchmarks:
        images = one.images
        lost = sum(sum(reasons.values()) for reasons in images.rejected.values())
        assert images.planned == images.judged + images.pending + lost
    found = figures(finished)
    assert found["colours"].images.rejected == {"captions": {"image_corrupt": 1}, "judge": {"request_failed": 1}}
    assert found["numbers"].images.rejected == {"captions": {"image_missing": 1}}
    run_judge(recipe, ScriptedEngine(judge))
    whole = finish(recipe)
    assert not whole.result.partial and whole.result.id != finished.result.id
    assert sum(one.images.judged for one in whole.result.benchmarks) == 21 - 3


# What is written


def test_the_files_are_written_and_the_same_again_are_found(tmp_path: Path) -> None:
    recipe = evaluated(tmp_path, even)
    shards: list[tuple[int, int]] = []
    first = finish(recipe, progress=lambda done, total: shards.append((done, total)))
    folder = Path(first.folder)
    names = {"results.json", "scores.parquet", "results.md", "results.tex", "index.html"}
    assert {path.name for path in folder.iterdir()} == names
    assert shards == [(1, 4), (2, 4), (3, 4), (4, 4)]
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    again = finish(recipe)
    assert first.fresh and not again.fresh and again.result == first.result
    (folder / "index.html").unlink()
    (folder / "results.json").unlink()
    assert finish(recipe).fresh
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert RunResult.model_validate_json(before["results.json"]) == first.result
    assert first.summary()["uri"] == str(folder) and first.summary()["mean"]["value"] == 0.5


def test_a_page_that_was_deleted_is_made_again(tmp_path: Path) -> None:
    recipe = evaluated(tmp_path)
    page = Path(finish(recipe).folder) / "index.html"
    before = page.read_bytes()
    page.unlink()
    assert not finish(recipe).fresh
    assert page.read_bytes() == before


def test_other_intervals_and_scorers_make_other_results(tmp_path: Path) -> None:
    recipe = evaluated(tmp_path, even)
    wider = recipe.model_copy(update={"intervals": recipe.intervals.model_copy(update={"level": 0.99})})
    narrow, wide = finish(recipe), finish(wider)
    assert narrow.prefix != wide.prefix
    one, other = narrow.result.benchmarks[0].mean, wide.result.benchmarks[0].mean
    assert one is not None and other is not None and one.low is not None and other.low is not None
    assert other.low <= one.low


def test_the_scores_are_one_row_an_answer(tmp_path: Path) -> None:
    finished = finish(evaluated(tmp_path, even))
    data = (Path(finished.folder) / "scores.parquet").read_bytes()
    assert hashlib.sha256(data).hexdigest() == finished.result.scores_sha256
    table = pq.read_table(io.BytesIO(data))
    assert table.schema == SCORES and table.num_rows == 144 + 64
    assert finished.run.scores().equals(table)


def test_two_evaluations_of_the_same_questions_are_compared(tmp_path: Path) -> None:
    thin = finish(evaluated(tmp_path, even))
    recipe = prism_recipe(tmp_path, BOTH, execution__output=str(tmp_path / "other"), captioner__model__name="lab/dense")
    dense = finish(run_prism(recipe))
    found = compare_runs(thin.run, dense.run)
    assert (found.macro.difference.value, found.macro.losses, found.macro.unmatched) == (0.5, 0, 0)
    assert found.macro.verdict == "better" and found.not_worse(0.0)


def test_the_tables_are_those_of_the_run(tmp_path: Path) -> None:
    finished = finish(evaluated(tmp_path, even))
    markdown = (Path(finished.folder) / "results.md").read_text()
    latex = (Path(finished.folder) / "results.tex").read_text()
    for text in (finished.text(), markdown, latex):
        for part in ("colours", "numbers", "macro average", "50.0", "100.0", "lab/captioner", "5 tokens", "25.0"):
            assert part in text


def test_provenance_names_all_that_decides_the_figures(tmp_path: Path) -> None:
    recipe = evaluated(tmp_path)
    result = finish(recipe).result
    assert result.captions.captioner is not None
    assert result.captions.captioner["model"]["name"] == "lab/captioner"
    assert result.captions.captioner["captions"] == 4
    assert result.captions.engines == result.judge.engines == ("scripted 1.2",)
    assert result.judge.model["name"] == "lab/judge" and result.judge.sampling["temperature"] == 0
    assert result.judge.prompt == recipe.judge.prompt.model_dump()
    assert set(result.datasets) == {"captions", "judge"}
    assert result.judged.endswith("+00:00")


# Captions of a file


def test_captions_of_a_file_are_measured_in_characters(tmp_path: Path) -> None:
    write_questions(tmp_path, "colours", 6, 2)
    file = write_captions(
        tmp_path / "captions.jsonl", [f"colours-{n}.png" for n in range(5)], ["caption 0 of picture ab"]
    )
    recipe = prism_recipe(
        tmp_path, {"colours": {"scorer": "choice"}}, captioner=None, captions={"name": "theirs", "uri": str(file)}
    )
    finished = finish(run_prism(recipe))
    (one,) = finished.result.benchmarks
    assert (one.captions.tokens.mean, one.captions.characters.mean, one.captions.truncated) == (None, 23.0, None)
    assert "23 characters" in finished.text()
    assert one.images.rejected == {"captions": {"sample_invalid": 1}} and one.images.judged == 5
    captions = finished.result.captions
    assert (captions.kind, captions.name, captions.captioner) == ("file", "theirs", None)
    assert captions.file_sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert 'alt="The picture of sample' in (Path(finished.folder) / "index.html").read_text()


def test_a_caption_file_that_is_gone_costs_its_digest_only(tmp_path: Path) -> None:
    write_questions(tmp_path, "colours", 3, 1)
    file = write_captions(tmp_path / "captions.jsonl", [f"colours-{n}.png" for n in range(3)])
    recipe = prism_recipe(
        tmp_path, {"colours": {"scorer": "choice"}}, captioner=None, captions={"name": "theirs", "uri": str(file)}
    )
    run_prism(recipe)
    file.unlink()
    assert finish(recipe).result.captions.file_sha256 is None


# What cannot be finished


def test_an_evaluation_that_has_not_begun_says_so(tmp_path: Path) -> None:
    write_questions(tmp_path, "colours", 3, 1)
    recipe = prism_recipe(tmp_path, {"colours": {"scorer": "choice"}})
    with pytest.raises(BadInputError, match="out/captions: this stage has not begun; run `caprl prism run` first"):
        finish(recipe)
    run_captions(recipe)
    with pytest.raises(BadInputError, match="out/judge: this stage has not begun"):
        finish(recipe, partial=True)


def test_another_judge_than_the_one_that_judged_is_refused(tmp_path: Path) -> None:
    evaluated(tmp_path)
    with pytest.raises(IdentityMismatchError, match=r"judge\.model\.name|model\.name"):
        finish(prism_recipe(tmp_path, BOTH, judge__model__name="lab/other"))


def test_a_damaged_result_is_named(tmp_path: Path) -> None:
    recipe = evaluated(tmp_path)
    path = Path(finish(recipe).folder) / "results.json"
    path.write_text(json.dumps({"version": 1}))
    with pytest.raises(BadInputError, match=r"results\.json is no result of this program"):
        finish(recipe)


def test_results_lie_on_a_bucket_as_in_a_folder(tmp_path: Path, bucket: str) -> None:
    local = finish(evaluated(tmp_path, even))
    recipe = prism_recipe(tmp_path, BOTH, execution__output=f"s3://{bucket}/prism")
    remote = finish(run_prism(recipe, even))
    assert remote.result.benchmarks == local.result.benchmarks
    names = {item.key.rpartition("/")[2] for item in Store(f"s3://{bucket}/prism").list(remote.prefix)}
    assert names == {"results.json", "scores.parquet", "results.md", "results.tex", "index.html"}
