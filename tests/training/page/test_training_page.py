"""The training page: head, curves and evaluations say what the run's files say."""

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from caprl_core.report.axes import figure
from caprl_core.training.page.curves import duration, rolling_mean
from caprl_core.training.page.run_files import best_evaluation
from caprl_core.training.page.training_page import REPORT, write_training_page
from support.edited_run import change, json_lines, page_of, page_text
from support.training_run import write_lines

# Head


def test_the_head_says_what_was_trained_on_what_and_how_far(finished: Path) -> None:
    said = page_of(finished).said()
    assert said.strip().startswith("Skip to the content Training: colours Policy tiny-captioner at revision r7")
    assert "21,345 questions about 2,000 pictures, fingerprint abababababababab" in said
    assert "1,032 questions about 100 pictures, fingerprint cdcdcdcdcdcdcdcd" in said
    assert "Steps 60 of 60 done" in said and "not finished" not in said


def test_the_key_figures_are_those_of_the_evaluations(finished: Path) -> None:
    said = page_of(finished).said()
    first, *_, last = json_lines(finished / "held_out.jsonl")
    gain = figure(last["reward"] - first["reward"])
    assert f"Held-out reward before {figure(first['reward'])} before the first step" in said
    assert f"Best held-out reward {figure(last['reward'])} at step 60, +{gain}" in said
    assert f"Last held-out reward {figure(last['reward'])} at step 60, +{gain}" in said
    before, after = figure(first["length_mean"]), figure(last["length_mean"])
    assert f"Caption length {after} tokens, held out, {before} before; 0 % cut at the limit" in said
    silent = f"{100 * first['abstained']:.1f} %"
    assert f"Reader abstains 0 % of the questions, held out, {silent} before" in said
    spent = math.fsum(line["step_s"] for line in json_lines(finished / "metrics.jsonl"))
    assert f"Time {duration(spent)} {figure(spent / 60)} s a step, 3,840 captions" in said


def test_a_run_that_is_going_on_is_said_to_be(run: Path) -> None:
    change(run / "run.json", lambda about: about["recipe"].update(steps=500))
    assert "8 of 500 done; the run had not finished when this page was written" in page_of(run).said()


@pytest.mark.parametrize(
    ("stopped", "says"),
    [
        ({"step": 7, "reason": "collapse", "detail": "length: 9 times the start"},
         "Stopped early at step 7: training had gone wrong . length: 9 times the start"),
        ({"step": 7, "reason": "signal", "detail": "SIGTERM"},
         "Stopped early at step 7: it was told to, and can be resumed . SIGTERM"),
        ({"step": 7, "reason": "disk_full"}, "Stopped early at step 7: disk full ."),
        ({}, "Stopped early: no reason told ."),
    ],
)  # fmt: skip
def test_a_run_that_stopped_early_begins_with_the_reason(run: Path, stopped: dict[str, Any], says: str) -> None:
    (run / "stopped.json").write_text(json.dumps(stopped))
    said = page_of(run).said()
    assert says in said and said.index("Stopped early") < said.index("Policy")
    assert "had not finished" not in said


# Curves


def test_every_curve_is_there_and_tells_its_ends(finished: Path) -> None:
    charts = page_of(finished).charts()
    assert list(charts) == [
        "Reward",
        "Length of captions",
        "Captions that went wrong",
        "Questions without an answer",
        "Spread of the reward",
        "KL to the starting policy",
        "Entropy",
        "Learning rate",
        "Gradient norm",
        "Seconds a step by phase",
    ]
    steps, held_out = json_lines(finished / "metrics.jsonl"), json_lines(finished / "held_out.jsonl")

    def ends(name: str, some: list[dict[str, Any]], factor: float = 1, text: Callable[[float], str] = figure) -> str:
        first, last = some[0], some[-1]
        return (
            f"{text(factor * first[name])} at step {first['step']}, {text(factor * last[name])} at step {last['step']},"
        )

    def percent(value: float) -> str:
        return f"{value:.1f} %"

    for chart, line in {
        "Reward": f"training, each step: {ends('reward', steps)}",
        "Length of captions": f"longest: {ends('length_max', steps)}",
        "Questions without an answer": f"abstained: {ends('abstained', steps, 100, percent)}",
        "Spread of the reward": f"standard deviation, each step: {ends('reward_std', steps)}",
        "KL to the starting policy": f"KL, each step: {ends('kl', steps)}",
        "Entropy": f"entropy, each step: {ends('entropy', steps)}",
        "Learning rate": f"learning rate: {ends('learning_rate', steps)}",
        "Gradient norm": f"norm, each step: {ends('grad_norm', steps)}",
    }.items():
        assert line in charts[chart], chart
    assert f"held out: {ends('reward', held_out)}" in charts["Reward"]
    assert f"held out, mean: {ends('length_mean', held_out)}" in charts["Length of captions"]
    for phase in ("rollout", "reader", "update", "rest"):
        mean = math.fsum(line[f"{phase}_s"] for line in steps) / len(steps)
        assert f"{phase}: {figure(mean)} on average" in charts["Seconds a step by phase"]


def test_the_thick_line_is_the_mean_of_the_steps_around() -> None:
    points = [(float(x), y) for x, y in enumerate([0.0, 3.0, 6.0, 3.0, 0.0])]
    assert rolling_mean(points, 3) == [(0, 1.5), (1, 3), (2, 4), (3, 3), (4, 1.5)]
    assert rolling_mean(points, 1) == points


def test_a_second_reader_has_a_line_a_figure_and_a_column(run: Path) -> None:
    assert "econd reader" not in page_of(run).said()
    change(run / "held_out.jsonl", lambda line: line.update(second_reward=line["step"] / 100))
    read = page_of(run)
    assert "held out, second reader: 0 at step 0, 0.080 at step 8" in read.charts()["Reward"]
    assert "Second reader's reward 0.080 at the last evaluation, 0 before" in read.said()


def test_the_time_of_a_step_is_split_into_phases(finished: Path) -> None:
    steps, said = json_lines(finished / "metrics.jsonl"), page_of(finished).said()
    whole = math.fsum(line["step_s"] for line in steps)
    reader = math.fsum(line["reader_s"] for line in steps)
    told = f"Reader The reader answers the questions from them. {figure(reader / 60)} {duration(reader)}"
    assert f"{told} {100 * reader / whole:.1f} %" in said
    assert f"All {figure(whole / 60)} {duration(whole)} 100 %" in said


@pytest.mark.parametrize(
    ("seconds", "text"), [(4.24, "4.2 s"), (59.7, "1 min 0 s"), (725, "12 min 5 s"), (12_060, "3 h 21 min")]
)
def test_durations_are_said_as_people_say_them(seconds: float, text: str) -> None:
    assert duration(seconds) == text


# Evaluations


def test_every_evaluation_is_a_row_and_the_best_stands_out(finished: Path) -> None:
    page = page_text(finished)
    body = page.partition("Evaluations: greedy captions of the held-out pictures</caption>")[2].partition("</table>")[0]
    rows = [re.sub(r"<[^>]+>", " ", row).split() for row in re.findall(r"<tr.*?</tr>", body)[1:]]
    told = json_lines(finished / "held_out.jsonl")
    assert [row[0] for row in rows] == [str(line["step"]) for line in told]
    assert all(figure(line["reward"]) in row for line, row in zip(told, rows, strict=True))
    (best,) = re.findall(r'<tr class="right"><th[^>]*>(.*?)</th>', body)
    assert best == "60 (best)"


@pytest.mark.parametrize(
    ("marks", "rewards", "best"),
    [
        ([True, True, False], [0.1, 0.5, 0.4], 1),
        ([True, True, False], [0.1, 0.3, 0.4], 1),  # the run's own word counts
        ([None, None, None], [0.1, 0.4, 0.4], 1),  # without it the first of the highest
        ([None, None, None], [None, None, None], None),
    ],
)
def test_the_best_evaluation_is_the_last_marked_one(marks: list[Any], rewards: list[Any], best: int | None) -> None:
    pairs = enumerate(zip(marks, rewards, strict=True))
    found = best_evaluation([{"step": step, "reward": reward, "best": mark} for step, (mark, reward) in pairs])
    assert (None if found is None else found["step"]) == best


def test_hundreds_of_evaluations_are_thinned_with_the_best_kept(run: Path) -> None:
    write_lines(run / "held_out.jsonl", [{"step": step, "reward": 0.9 if step == 777 else 0.1} for step in range(2000)])
    said = page_of(run).said()
    assert "61 of 2,000" in said and "777 (best)" in said and "1,999" in said


# Writing


def test_the_page_lies_in_the_run_and_is_replaced_whole(run: Path) -> None:
    assert write_training_page(run) == run / REPORT
    before = (run / REPORT).read_bytes()
    assert write_training_page(run).read_bytes() == before
    assert [path.name for path in run.iterdir() if path.name.startswith("report")] == ["report.html"]


def test_the_page_can_be_written_elsewhere(run: Path, tmp_path: Path) -> None:
    assert write_training_page(run, tmp_path / "a" / "b" / "page.html") == tmp_path / "a" / "b" / "page.html"
    assert not (run / REPORT).exists()
