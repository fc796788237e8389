"""The training page of whatever is there: runs just begun, files cut short or missing, hostile text, long runs."""

import json
import math
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from caprl_core.errors import BadInputError
from caprl_core.report.axes import figure
from caprl_core.training.page.run_files import number, read_lines
from caprl_core.training.page.training_page import write_training_page
from support.edited_run import captioned, cards, change, draw, json_lines, page_of, write_rows
from support.page_reader import read_harmless
from support.training_run import ABOUT, metric_line, write_lines, write_training_run

HOSTILE = "</p></td></script><script>alert(1)</script>\"' onload=x &amp; \u202egnp\x00"

# Whatever is there


def test_an_empty_folder_has_a_page(tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    said = page_of(tmp_path / "new").said()
    assert "Training: new" in said and "Policy not told" in said and "no evaluation yet" in said
    assert "No step has told its time yet." in said and "No held-out picture with a caption to show yet." in said


def test_what_is_no_folder_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="absent: no folder"):
        write_training_page(tmp_path / "absent")


def test_a_single_step_before_any_evaluation_has_its_figures(tmp_path: Path) -> None:
    run = tmp_path / "begun"
    run.mkdir()
    (run / "run.json").write_text(json.dumps(ABOUT))
    write_lines(run / "metrics.jsonl", [metric_line(1, 60)])
    read = page_of(run)
    assert f"training: {figure(metric_line(1, 60)['reward'])} at step 1; held out: no value" in read.charts()["Reward"]
    assert "1 of 60 done" in read.said()


@pytest.mark.parametrize("name", ["metrics.jsonl", "held_out.jsonl"])
def test_a_line_cut_in_the_middle_costs_that_line_alone(run: Path, name: str) -> None:
    whole = json_lines(run / name)
    text = (run / name).read_bytes()
    (run / name).write_bytes(text[: len(text) - 30])
    assert read_lines(run / name) == whole[:-1]
    assert f"at step {whole[-2]['step']}," in page_of(run).charts()["Reward"]


def test_lines_that_are_no_steps_are_passed_over(run: Path) -> None:
    before = page_of(run).charts()
    with (run / "metrics.jsonl").open("ab") as file:
        file.write(
            b'[]\n\xff\xfe\n{"step": "9"}\n{"step": true}\n{"step": -1}\n{"reward": 1}\n\n' + b"[" * 100_000 + b"\n"
        )
    assert page_of(run).charts() == before


def test_of_a_step_written_twice_the_later_line_counts(run: Path) -> None:
    with (run / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"step": 3, "kl": 0.77}) + "\n")
    assert "highest 0.770 at 3" in page_of(run).charts()["KL to the starting policy"]


@pytest.mark.parametrize("value", [None, math.nan, math.inf, True, "0.5", HOSTILE, [], {}, 10**400, 1e300])
def test_what_is_no_number_is_no_value(run: Path, value: Any) -> None:
    assert number({"reward": value}, "reward") is None
    change(run / "metrics.jsonl", lambda line: line.update(dict.fromkeys(line.keys() - {"step"}, value)))
    change(run / "held_out.jsonl", lambda line: line.update(dict.fromkeys(line.keys() - {"step"}, value)))
    read = page_of(run)
    assert "training: no value; held out: no value" in read.charts()["Reward"]


@pytest.mark.parametrize("names", [["step", "reward"], ["step", "kl"], ["step"]])
def test_columns_that_are_missing_are_told_as_missing(run: Path, names: list[str]) -> None:
    for file in ("metrics.jsonl", "held_out.jsonl"):
        write_lines(
            run / file, [{name: line[name] for name in names if name in line} for line in json_lines(run / file)]
        )
    charts = page_of(run).charts()
    assert ("training: no value" in charts["Reward"]) == ("reward" not in names)
    assert ("KL: no value" in charts["KL to the starting policy"]) == ("kl" not in names)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", "3", '{"recipe": 3, "policy": [], "questions": "x", "watched": 7}']
)
def test_a_run_file_that_is_none_costs_what_it_says_alone(run: Path, text: str) -> None:
    (run / "run.json").write_text(text)
    read = page_of(run)
    assert "Training: small" in read.said() and "8 done" in read.said()
    assert len(read.charts()) == 10


def test_a_half_copied_evaluation_is_passed_over_for_another(finished: Path, tmp_path: Path) -> None:
    run = tmp_path / "copied"
    write_training_run(run)
    for step in (0, 60):
        path = run / "held_out" / f"step-{step:06d}.parquet"
        path.write_bytes(path.read_bytes()[:-50])
    card = cards(page_of(run))[0]
    assert re.findall(r"Step (\d+)", card)[:5] == ["10", "20", "30", "40", "50"]


def test_an_evaluation_of_other_columns_shows_what_it_has(run: Path) -> None:
    for path in (run / "held_out").iterdir():
        pq.write_table(pq.read_table(path, columns=["key", "caption"]), path)
    card = cards(page_of(run))[0]
    assert "Step 0 before no reward" in card and "There" in card
    pq.write_table(pa.table({"other": [1]}), run / "held_out" / "step-000004.parquet")
    assert "Step 4 no caption" in cards(page_of(run))[0]


def test_no_rollouts_are_read(run: Path) -> None:
    (run / "rollouts").mkdir()
    (run / "rollouts" / "step-000001.parquet").write_bytes(b"anything")
    assert len(page_of(run).charts()) == 10


def test_twenty_thousand_steps_are_a_page_of_ordinary_size(run: Path) -> None:
    lines = [metric_line(step, 20_000) for step in range(1, 20_001)]
    write_lines(run / "metrics.jsonl", lines)
    page = write_training_page(run).read_bytes()
    charts = read_harmless(page).charts()
    assert len(page) < 1_000_000
    assert "at step 20,000" in charts["Gradient norm"]
    spike = max(line["grad_norm"] for line in lines)
    assert f"highest {figure(spike)}" in charts["Gradient norm"]


# Hostile text


def test_hostile_text_anywhere_is_shown_and_does_nothing(run: Path) -> None:
    about = json.loads((run / "run.json").read_text())

    def spoil(value: Any) -> Any:
        if isinstance(value, dict):
            return {name if name in about else HOSTILE + name: spoil(one) for name, one in value.items()}
        return HOSTILE if isinstance(value, str) else value

    files = {HOSTILE: "picture-0.png"}
    spoilt = {name: spoil(value) for name, value in about.items()} | {"name": HOSTILE, "watched": files}
    spoilt["policy"] = {"name": HOSTILE, "revision": HOSTILE}
    (run / "run.json").write_text(json.dumps(spoilt))
    (run / "stopped.json").write_text(json.dumps({"step": 8, "reason": HOSTILE, "detail": HOSTILE}))
    hostile = {**draw(HOSTILE, "wrong", reply=HOSTILE), "options": [HOSTILE, HOSTILE]}
    for step, outcome in ((0, "unread"), (4, HOSTILE), (8, "wrong")):
        captioned(
            run, step, HOSTILE * (step + 1), [hostile | {"outcome": outcome}], key=HOSTILE, reason=HOSTILE, reward=None
        )
    page = write_training_page(run).read_bytes()
    read = read_harmless(page)
    assert read.said().count("<script>alert(1)</script>") > 20
    assert len(read.tags("img")) == 1 and "<mark>" in page.decode()
    assert not set("\u202e\x00") & set(page.decode())


def test_the_worst_captions_leave_a_page_that_opens(run: Path) -> None:
    words, long = "\u202e&" * 400, "\u202e&" * 5000
    questions = [{**draw(f"{place}{words}", "wrong", reply=words), "options": [words, words]} for place in range(60)]
    keys = [f"k{place}{words}" for place in range(20)]
    for step in (0, 4, 8):
        path = run / "held_out" / f"step-{step:06d}.parquet"
        captioned(run, step, long, questions)
        (row,) = pq.read_table(path).to_pylist()
        write_rows(path, [{**row, "key": key} for key in keys])
    about = {"watched": dict.fromkeys(keys, "picture-0.png"), "recipe": [long] * 9}
    change(run / "run.json", lambda found: found.update(about))
    page = write_training_page(run).read_bytes()
    assert len(read_harmless(page).tags("img")) == 12
    assert len(page) < 10_000_000
