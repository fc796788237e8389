"""Two runs on the same questions: joined by id, refused where they were scored differently, judged by the interval."""

import random
from pathlib import Path
from typing import Any

import pytest

from caprl_core.errors import BadInputError
from caprl_core.prism.compare import Comparison, compare, compare_runs
from caprl_core.prism.results.comparison_tables import comparison_table, gained, verdict_line
from caprl_core.prism.results.run_result import Estimate
from caprl_core.prism.results.typeset import as_latex, as_markdown, as_text
from support.made_runs import Points, made_run

IMAGES = 120


def answers(right: float, seed: int = 0, images: int = IMAGES, questions: int = 3, captions: int = 4) -> dict[str, Any]:
    """Points of a benchmark's images: each question as often right as `right` says, harder and easier ones alike."""
    rng = random.Random(seed)
    found: dict[str, Any] = {}
    for image in range(images):
        hard = rng.random()
        found[f"image-{image}"] = {
            f"{image}-{place}": [float(rng.random() < (right + hard) / 2) for _ in range(captions)]
            for place in range(questions)
        }
    return found


def compared(tmp_path: Path, first: Points, second: Points, force: bool = False, **changes: Any) -> Comparison:
    one, two = made_run(tmp_path / "a", first, "thin"), made_run(tmp_path / "b", second, "dense", **changes)
    return compare_runs(one, two, force=force)


def test_better_captions_are_better_and_wins_and_losses_add_up(tmp_path: Path) -> None:
    found = compared(tmp_path, {"charts": answers(0.3)}, {"charts": answers(0.7, seed=1)})
    (one,) = found.benchmarks
    assert one.wins + one.ties + one.losses == one.questions == 3 * IMAGES
    assert one.wins > one.losses
    assert one.difference.value == pytest.approx(one.second - one.first, abs=1e-5)
    assert one.verdict == found.macro.verdict == "better"
    assert found.not_worse(0.0)
    assert (one.images, one.unmatched) == (IMAGES, 0)


def test_the_other_way_round_it_is_worse_by_as_much(tmp_path: Path) -> None:
    first, second = {"charts": answers(0.3)}, {"charts": answers(0.7, seed=1)}
    forth, back = compared(tmp_path / "x", first, second).macro, compared(tmp_path / "y", second, first)
    assert back.macro.difference.value == -forth.difference.value
    assert back.macro.verdict == "worse" and not back.not_worse(0.05)
    assert (back.macro.wins, back.macro.losses) == (forth.losses, forth.wins)


def test_the_same_answers_are_all_ties_and_undecided(tmp_path: Path) -> None:
    same = {"charts": answers(0.5)}
    found = compared(tmp_path, same, same)
    assert (found.macro.difference.value, found.macro.ties, found.macro.verdict) == (0.0, 3 * IMAGES, "undecided")
    # No image of 120 differs: at most 3 % of them may.
    assert found.not_worse(0.031) and not found.not_worse(0.029)


def test_not_worse_looks_at_the_lower_end_of_the_macro_difference(tmp_path: Path) -> None:
    found = compared(tmp_path, {"charts": answers(0.5)}, {"charts": answers(0.5, seed=1)})
    low = found.macro.difference.low
    assert low is not None and low < 0
    assert found.not_worse(-low) and not found.not_worse(-low - 0.001)


def test_one_image_proves_nothing(tmp_path: Path) -> None:
    found = compared(tmp_path, {"charts": answers(0.0, images=1)}, {"charts": answers(1.0, images=1)})
    assert found.macro.difference.low is None and not found.not_worse(1.0)
    assert "(—)" in verdict_line(found)


def test_pairing_narrows_the_interval(tmp_path: Path) -> None:
    """The same questions are hard for both, so the difference is surer than the scores it is made of."""
    first = {"charts": {i: {q: [p[0]] * 4 for q, p in qs.items()} for i, qs in answers(0.5).items()}}
    second = {"charts": {i: dict(qs) for i, qs in first["charts"].items()}}
    for number in range(4):
        second["charts"][f"image-{number}"] = {f"{number}-{place}": [1.0] * 4 for place in range(3)}
    found = compared(tmp_path, first, second).macro.difference
    mean = made_run(tmp_path / "c", first).result.macro.mean
    assert mean is not None and mean.high is not None and mean.low is not None
    assert found.high is not None and found.low is not None
    assert found.high - found.low < (mean.high - mean.low) / 2


def test_questions_are_joined_by_id_whatever_their_order(tmp_path: Path) -> None:
    first = {"charts": answers(0.4)}
    turned = {
        "charts": {image: dict(reversed(list(qs.items()))) for image, qs in reversed(list(first["charts"].items()))}
    }
    found = compared(tmp_path, first, turned)
    assert (found.macro.ties, found.macro.difference.value) == (3 * IMAGES, 0.0)


def test_what_only_one_run_has_is_counted_and_left_out(tmp_path: Path) -> None:
    first = {"charts": answers(0.4), "maps": answers(0.4, images=5)}
    second = {"charts": answers(0.4, images=IMAGES + 10), "photos": answers(0.9, images=5)}
    second["charts"]["image-0"] = {**second["charts"]["image-0"], "0-0": [None] * 4}  # all requests failed
    found = compared(tmp_path, first, second)
    (one,) = found.benchmarks
    assert (one.questions, one.unmatched) == (3 * IMAGES - 1, 2 * 1 - 1 + 3 * 10 + 1)
    assert (found.only_first, found.only_second) == (("maps",), ("photos",))


def test_the_best_is_taken_of_as_many_captions_as_both_have(tmp_path: Path) -> None:
    found = compared(tmp_path, {"charts": answers(0.5, captions=4)}, {"charts": answers(0.5, seed=1, captions=2)})
    assert found.benchmarks[0].best_captions == 2
    assert abs(found.benchmarks[0].best_difference.value) < 0.1  # best of 4 against best of 2 would differ by more


def test_a_failed_request_counts_for_nobody(tmp_path: Path) -> None:
    first = {"charts": {f"i{n}": {f"q{n}": [1.0, 1.0]} for n in range(30)}}
    second = {"charts": {f"i{n}": {f"q{n}": [1.0, None]} for n in range(30)}}
    assert compared(tmp_path, first, second).macro.ties == 30


def test_the_macro_difference_weighs_benchmarks_alike(tmp_path: Path) -> None:
    small, large = answers(0.0, images=40), answers(0.5, images=200)
    gone = {image: {q: [1.0] * 4 for q in qs} for image, qs in small.items()}
    found = compared(tmp_path, {"small": small, "large": large}, {"small": gone, "large": large})
    first, second = (one.difference.value for one in found.benchmarks)
    assert found.macro.difference.value == pytest.approx((first + second) / 2, abs=1e-5)


# What cannot be compared


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"judge": {"model": {"name": "lab/other", "revision": "abc"}}}, "judge.model.name"),
        ({"judge": {"model": {"name": "lab/judge", "revision": "def"}}}, "judge.model.revision"),
        ({"judge": {"prompt": {"id": "choice", "text": "Answer! {caption} {question}"}}}, "judge.prompt.text"),
        ({"judge": {"sampling": {"temperature": 0.7, "seed": 0}}}, "judge.sampling.temperature"),
        ({"judge": {"abstain": "Cannot say"}}, "judge.abstain"),
        ({"scorer": "exact"}, "scorers.charts"),
        ({"scoring_version": 99}, "scoring_version"),
        ({"asked": "another"}, "360 questions have another text"),
    ],
)
def test_runs_that_were_not_scored_alike_are_refused_by_field_unless_forced(
    tmp_path: Path, changes: dict[str, Any], named: str
) -> None:
    points = {"charts": answers(0.5)}
    with pytest.raises(BadInputError) as refused:
        compared(tmp_path, points, points, **changes)
    assert named in str(refused.value) and "thin and dense" in str(refused.value)
    forced = compared(tmp_path, points, points, force=True, **changes)
    assert len(forced.forced) >= 1 and named in " ".join(forced.forced)
    assert "forced" in verdict_line(forced)


def test_another_seed_of_the_judge_is_no_hindrance(tmp_path: Path) -> None:
    points = {"charts": answers(0.5)}
    found = compared(tmp_path, points, points, judge={"sampling": {"temperature": 0.0, "seed": 7}})
    assert found.forced == ()


def test_runs_without_a_common_question_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="the first has the benchmarks charts, the second maps"):
        compared(tmp_path, {"charts": answers(0.5)}, {"maps": answers(0.5)})


def test_scores_that_are_not_those_of_the_result_are_refused(tmp_path: Path) -> None:
    points = {"charts": answers(0.5)}
    made_run(tmp_path / "a", points)
    made_run(tmp_path / "b", points)
    (tmp_path / "b" / "scores.parquet").write_bytes(b"PAR1")
    with pytest.raises(BadInputError, match=r"b/scores\.parquet is not the file"):
        compare(str(tmp_path / "a"), str(tmp_path / "b"))
    (tmp_path / "b" / "scores.parquet").unlink()
    with pytest.raises(BadInputError, match=r"b/scores\.parquet is missing"):
        compare(str(tmp_path / "a"), str(tmp_path / "b"))


# Where runs lie


def test_a_run_is_found_by_its_file_its_folder_and_its_evaluation(tmp_path: Path) -> None:
    points = {"charts": answers(0.5)}
    made_run(tmp_path / "out" / "results" / "0123", points, "thin")
    for uri in ("out", "out/results/0123", "out/results/0123/results.json"):
        assert compare(str(tmp_path / uri), str(tmp_path / "out")).macro.ties == 3 * IMAGES


def test_a_run_on_a_bucket_is_found_too(tmp_path: Path, bucket: str, s3_client: Any) -> None:
    made_run(tmp_path / "run", {"charts": answers(0.5)})
    for name in ("results.json", "scores.parquet"):
        s3_client.upload_file(str(tmp_path / "run" / name), bucket, f"eval/results/0123/{name}")
    for uri in ("eval", "eval/results/0123", "eval/results/0123/results.json"):
        assert compare(f"s3://{bucket}/{uri}", str(tmp_path / "run")).macro.ties == 3 * IMAGES


def test_a_mistyped_folder_is_named_and_not_made(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="nowhere: there is no such folder"):
        compare(str(tmp_path / "nowhere"), str(tmp_path))
    assert not (tmp_path / "nowhere").exists()
    with pytest.raises(BadInputError, match=r"no results\.json here"):
        compare(str(tmp_path), str(tmp_path))


def test_a_file_that_is_no_result_is_named(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text('{"version": 1}')
    with pytest.raises(BadInputError, match=r"results\.json is no result of this program"):
        compare(str(tmp_path), str(tmp_path))


# How it is told


def test_the_table_names_both_runs_in_every_form(tmp_path: Path) -> None:
    found = compared(tmp_path, {"charts": answers(0.3)}, {"charts": answers(0.7, seed=1)})
    table = comparison_table(found)
    for form in (as_text, as_markdown, as_latex):
        shown = form(table)
        for part in ("thin", "dense", "charts", "macro average", "better", "515 / 515", "25.0"):
            assert part in shown
    assert verdict_line(found).startswith("dense is better than thin: +")


def test_a_comparison_is_read_back_from_its_json(tmp_path: Path) -> None:
    found = compared(tmp_path, {"charts": answers(0.3)}, {"charts": answers(0.7, seed=1)})
    assert Comparison.model_validate_json(found.model_dump_json()) == found


@pytest.mark.parametrize(
    ("value", "low", "high", "text"),
    [
        (0.0214, 0.004, 0.0384, "+2.1 (+0.4 to +3.8)"),
        (-0.01, -0.02, 0.0, "−1.0 (−2.0 to 0.0)"),
        (0.0002, -0.0003, 0.001, "0.0 (0.0 to +0.1)"),
        (0.5, None, None, "+50.0 (—)"),
    ],
)
def test_differences_carry_their_sign(value: float, low: float | None, high: float | None, text: str) -> None:
    assert gained(Estimate(value=value, low=low, high=high)) == text
