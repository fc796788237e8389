"""`caprl reward` as a user at a shell sees it, with a server that answers."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from caprl_core.exit_codes import ExitCode
from support.stub_thread import running_stub


def caprl(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "COLUMNS": "200", "NO_COLOR": "1"}
    command = [sys.executable, "-m", "caprl_core.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=120)


@pytest.fixture
def inputs(tmp_path: Path) -> tuple[Path, Path]:
    questions, captions = tmp_path / "questions-train.jsonl", tmp_path / "captions.jsonl"
    asked = [{"question": "What colour is it?", "choices": ["A) red", "B) blue"], "answer": "A"}]
    questions.write_text(
        "".join(json.dumps({"key": f"k{n}", "image": f"{n}.png", "questions": asked}) + "\n" for n in range(3))
    )
    rows = [{"key": f"k{n}", "caption": f"Thing {n}"} for n in range(4)]
    captions.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return questions, captions


def recipe(folder: Path, url: str) -> Path:
    path = folder / "reward.yaml"
    path.write_text(
        f"reader: {{model: {{name: stub}}}}\nexecution: {{engine: {{kind: openai, urls: ['{url}']}}, retries: 0}}\n"
    )
    return path


def test_a_file_is_scored_and_summed_up(tmp_path: Path, inputs: tuple[Path, Path]) -> None:
    questions, captions = inputs
    out = tmp_path / "scores.jsonl"
    with running_stub() as server:
        arguments = ("reward", recipe(tmp_path, server.url), "--questions", questions, "--captions", captions)
        done = caprl(*arguments, "--out", out, "--json")
        assert done.returncode == ExitCode.OK, done.stderr
        told = caprl(*arguments, "--out", out)
        texts = [request["messages"][-1]["content"] for request in server.requests]
    totals = json.loads(done.stdout)
    # The stub says random words: every draw is answered, and none can be read.
    assert (totals["captions"], totals["scored"], totals["unread"]) == (4, 3, 1.0)
    assert totals["without_reward"] == {"no_questions": 1}
    assert [json.loads(line)["reward"] for line in out.read_text().splitlines()] == [0.0, 0.0, 0.0, None]
    assert "4 captions, 3 with a reward" in told.stdout
    assert "without a reward: no_questions 1" in told.stdout
    assert str(out) in told.stdout
    assert all(isinstance(text, str) for text in texts)


def test_questions_that_cannot_be_used_are_told(tmp_path: Path, inputs: tuple[Path, Path]) -> None:
    questions, captions = inputs
    with questions.open("a") as file:
        file.write(json.dumps({"key": "k9", "questions": [{"question": "Which?", "answer": "A"}]}) + "\n")
    with running_stub() as server:
        path = recipe(tmp_path, server.url)
        done = caprl(
            "reward", path, "--questions", questions, "--captions", captions, "--out", tmp_path / "s", "--json"
        )
    assert done.returncode == ExitCode.OK
    assert "1 questions or rows were not taken over" in done.stderr
    assert "line 4" in done.stderr


def test_wrong_input_ends_with_2_and_writes_nothing(tmp_path: Path, inputs: tuple[Path, Path]) -> None:
    questions, captions = inputs
    out = tmp_path / "scores.jsonl"
    path = recipe(tmp_path, "http://127.0.0.1:1/v1")
    done = caprl("reward", path, "--questions", captions, "--captions", captions, "--out", out)
    assert done.returncode == ExitCode.BAD_INPUT
    assert "not one question" in done.stderr
    done = caprl("reward", "configs/demo.yaml", "--questions", questions, "--captions", captions, "--out", out)
    assert done.returncode == ExitCode.BAD_INPUT
    assert not out.exists()
