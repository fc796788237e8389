"""The curve of a run: what is written is read back, and a kill or a resume leaves each step once."""

import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caprl_core.training.curve import append_line, cut_after, read_lines


def steps(path: Path) -> list[int]:
    return [line["step"] for line in read_lines(path)]


def test_lines_are_read_back_as_written(tmp_path: Path) -> None:
    path = tmp_path / "run" / "metrics.jsonl"
    lines = [
        {"step": 1, "loss": 0.1234567890123456789, "text": "é\u2028\x85\u0000 😀"},
        {"step": 2, "x": None},
    ]
    for line in lines:
        append_line(path, line)
    assert read_lines(path) == lines


def test_a_curve_that_is_not_there_is_empty(tmp_path: Path) -> None:
    assert read_lines(tmp_path / "none.jsonl") == []
    cut_after(tmp_path / "none.jsonl", 3)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_none_becomes_null_as_json_has_no_word_for_it(tmp_path: Path, value: float) -> None:
    append_line(tmp_path / "m.jsonl", {"step": 1, "loss": value})

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    assert json.loads((tmp_path / "m.jsonl").read_text(), parse_constant=refuse) == {"step": 1, "loss": None}


def test_a_resume_drops_the_steps_that_will_be_made_again(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    for step in range(1, 8):
        append_line(path, {"step": step, "attempt": 1})
    cut_after(path, 4)
    for step in range(5, 8):
        append_line(path, {"step": step, "attempt": 2})
    assert [(line["step"], line["attempt"]) for line in read_lines(path)] == [
        *((step, 1) for step in range(1, 5)),
        *((step, 2) for step in range(5, 8)),
    ]


def test_a_run_without_a_checkpoint_begins_its_curve_anew(tmp_path: Path) -> None:
    append_line(tmp_path / "h.jsonl", {"step": 0})
    append_line(tmp_path / "h.jsonl", {"step": 3})
    cut_after(tmp_path / "h.jsonl", -1)
    assert read_lines(tmp_path / "h.jsonl") == []
    assert (tmp_path / "h.jsonl").read_text() == ""


@given(kept=st.integers(0, 60), step=st.integers(0, 4))
def test_a_line_cut_short_by_a_kill_is_left_out_and_does_not_spoil_the_next(
    tmp_path_factory: pytest.TempPathFactory, kept: int, step: int
) -> None:
    path = tmp_path_factory.mktemp("curve") / "m.jsonl"
    for number in (1, 2):
        append_line(path, {"step": number, "loss": 0.5, "note": "é"})
    torn = json.dumps({"step": 3, "loss": 0.25, "note": "é" * 30}, ensure_ascii=False).encode()[: kept + 1]
    with path.open("ab") as file:
        file.write(torn)
    assert steps(path) == [1, 2]
    cut_after(path, step)
    append_line(path, {"step": step + 1})
    assert steps(path) == [*range(1, min(step, 2) + 1), step + 1]
    assert path.read_bytes().endswith(b"\n")


def test_lines_that_are_no_lines_of_a_curve_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    path.write_bytes(b'[1]\n{"loss": 1}\n{"step": "3"}\n\n\xff\xfe\n{"step": 4}\nnull\n{"step": 5}')
    assert steps(path) == [4, 5]
