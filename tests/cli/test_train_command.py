"""`caprl train`, `train-show`, `train-page`, and how a training run shows itself."""

import io
import json
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from caprl_core.cli import main
from caprl_core.cli.training_course import Course, in_words
from caprl_core.cli.training_display import TrainingDisplay
from caprl_core.recipe.identity import identity
from caprl_core.recipe.load import load_training_recipe
from caprl_core.storage.store import Store
from caprl_core.training.exporting import CAPTIONER
from caprl_core.training.mirrored_folder import push_folder
from caprl_core.training.registry import register_captioner

ROOT = Path(__file__).parents[2]


class Done(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


def caprl(*arguments: object) -> Done:
    """The command line, in this process: a process of its own would take a second each time."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", ["caprl", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
    return Done(int(ended.value.code or 0), out.getvalue(), err.getvalue())


def test_training_becomes_the_flow_and_shares_its_exit_code(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("name: Not A Slug\npolicy: {}\n")
    done = subprocess.run(
        [sys.executable, "-m", "caprl_core.cli", "train", str(recipe), "--json"],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 2, done.stderr
    # The flow's own JSON, not this command's message: the process was replaced.
    assert json.loads(done.stdout)["event"] == "error"


def test_the_commands_are_described_without_loading_what_they_need() -> None:
    code = (
        "import sys\nfrom caprl_core.cli import app\nfrom typer.testing import CliRunner\n"
        "for name in ('train', 'train-show', 'train-page'):\n"
        "    assert CliRunner().invoke(app, [name, '--help']).exit_code == 0, name\n"
        "print([name for name in ('torch', 'transformers', 'pyarrow', 'prefect') if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300)
    assert done.stdout == "[]\n"


# A run that goes on, is over, or never began


class Run:
    """The records of a run of the world's recipe in a folder."""

    def __init__(self, folder: Path, output: str | None = None) -> None:
        self.work = folder / "work"
        document = yaml.safe_load((ROOT / "configs/grpo-world.yaml").read_text()) | {"steps": 60}
        document["execution"] |= {"output": output or str(self.work), "work": str(self.work) if output else None}
        self.config = folder / "recipe.yaml"
        self.config.write_text(yaml.safe_dump(document))
        self.recipe = load_training_recipe(self.config)

    def begin(self) -> None:
        self.work.mkdir()
        digest = {"uri": "a", "images": 32, "questions": 128, "sha256": "aa" * 32}
        record = {
            "name": self.recipe.name,
            "recipe": identity(self.recipe),
            "policy": {"name": "world/captioner", "revision": None},
            "questions": digest,
            "held_out": digest,
            "versions": {},
        }
        (self.work / "run.json").write_text(json.dumps(record))
        self.append("metrics.jsonl", {"step": 1, "reward": 0.25, "length_mean": 12.5})
        for step, reward in ((0, 0.25), (20, 0.625), (40, 0.5)):
            self.append("held_out.jsonl", {"step": step, "reward": reward, "length_mean": 10.0, "best": reward != 0.5})

    def append(self, name: str, line: Mapping[str, Any]) -> None:
        with (self.work / name).open("a") as file:
            file.write(json.dumps(line) + "\n")

    def save(self, step: int) -> None:
        checkpoint = self.work / "checkpoints" / f"checkpoint-{step}"
        checkpoint.mkdir(parents=True)
        (checkpoint / "trainer_state.json").write_text(json.dumps({"global_step": step}))

    def register(self) -> None:
        (self.work / CAPTIONER).mkdir()
        (self.work / CAPTIONER / "config.json").write_text("{}")
        if self.recipe.execution.work is not None:
            push_folder(Store(self.recipe.execution.output), CAPTIONER, self.work / CAPTIONER)
        register_captioner(self.recipe, self.work, 20)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    made = Run(tmp_path)
    made.begin()
    return made


def test_what_was_never_begun_is_said_to_be_so_and_nothing_is_made(tmp_path: Path) -> None:
    recipe = Run(tmp_path).config
    for target in (tmp_path / "mistyped", recipe):
        for command in ("train-show", "train-page"):
            done = caprl(command, target)
            assert (done.returncode, "no folder of a training run" in done.stderr) == (2, True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["recipe.yaml"]


def test_a_run_is_shown_with_its_evaluations_and_where_it_would_go_on(run: Run) -> None:
    run.save(40)
    (run.work / "checkpoints" / "checkpoint-60").mkdir()  # half written
    for target in (run.work, run.config):
        done = caprl("train-show", target)
        assert done.returncode == 3
        assert "step       1 of 60, newest checkpoint: step 40" in done.stdout
        assert "not registered yet" in done.stdout
    assert [line.split() for line in done.stdout.splitlines()[-4:]] == [
        ["step", "reward", "tokens"],
        ["0", "0.250", "10.0"],
        ["20", "0.625", "10.0", "best"],
        ["40", "0.500", "10.0"],
    ]


def test_a_registered_captioner_ends_it_with_0(run: Run) -> None:
    run.register()
    done = caprl("train-show", run.work)
    assert (done.returncode, f"step 20, registered: {run.work}/captioner" in done.stdout) == (0, True)
    found = json.loads(caprl("train-show", run.work, "--json").stdout)
    assert found["captioner"] == {"uri": f"{run.work}/captioner", "step": 20}
    assert (found["step"], found["steps"], found["checkpoint"]) == (1, 60, None)
    assert [line["step"] for line in found["evaluations"]] == [0, 20, 40]
    (run.work / CAPTIONER / "config.json").write_text("{} ")
    damaged = caprl("train-show", run.work)
    assert (damaged.returncode, "is not the captioner that was registered" in damaged.stderr) == (1, True)


def test_a_run_in_a_bucket_is_shown_from_there(tmp_path: Path, bucket: str) -> None:
    uri = f"s3://{bucket}/run"
    run = Run(tmp_path, uri)
    run.begin()
    store = Store(uri)
    for path in run.work.iterdir():
        store.put_file(path.name, path)
    run.save(20)
    push_folder(store, "checkpoints/checkpoint-20", run.work / "checkpoints/checkpoint-20")
    store.put("checkpoints/checkpoint-40/trainer_state.json", b'{"global_step": 40}')  # half put
    run.register()
    done = caprl("train-show", uri)
    assert done.returncode == 0
    assert "step       1 of 60, newest checkpoint: step 20" in done.stdout
    assert json.loads(caprl("train-show", uri, "--json").stdout)["captioner"]["uri"] == f"{uri}/captioner"
    refused = caprl("train-page", uri)
    assert (refused.returncode, "--out" in refused.stderr) == (2, True)
    page = tmp_path / "page.html"
    assert caprl("train-page", uri, "--out", page).stdout.strip() == str(page)
    assert "0.625" in page.read_text()


def test_the_page_is_written_into_the_run_or_where_it_is_asked_for(run: Run, tmp_path: Path) -> None:
    assert caprl("train-page", run.work).stdout.strip() == str(run.work / "report.html")
    caprl("train-page", run.config, "-o", tmp_path / "page.html")
    assert (tmp_path / "page.html").read_bytes() == (run.work / "report.html").read_bytes()
    assert "grpo-world" in (tmp_path / "page.html").read_text()


# How a run shows itself

BEGIN = {"event": "begin", "step": 0, "steps": 60, "resumed": False, "run": "/runs/a"}


def step(number: int, **facts: Any) -> dict[str, Any]:
    line = {"event": "step", "step": number, "steps": 60, "reward": 0.25, "length_mean": 12.5, "abstained": 0.5}
    return line | {"kl": 0.0125, "step_s": 2.0, "at": 1000.0 + 3.0 * number} | facts


def test_the_course_has_every_figure_and_the_time_left() -> None:
    course = Course()
    for event in (BEGIN, step(1), {"event": "held_out", "step": 1, "reward": 0.5, "best": True}, step(10)):
        course.event(event)
    assert course.figures() == (
        "step 10/60, reward 0.250, 12.5 tokens, 50.0% abstained, KL 0.0125, held out 0.500, 2.0 s a step, "
        "2 min 30 s left"
    )
    # What took a pause and resumed has another pace: that of its own steps.
    course.event(BEGIN | {"step": 10, "resumed": True})
    assert course.eta_s is None
    course.event(step(11, at=9000.0, reward=None, kl=None))
    course.event(step(12, at=9010.0, reward=None, kl=None))
    assert course.eta_s == 480.0
    assert "reward none, 12.5 tokens, 50.0% abstained, held out" in course.figures()


def test_events_are_said_in_words_and_steps_are_not() -> None:
    assert in_words(step(3)) is None
    assert in_words(BEGIN) == "beginning at step 0 of 60, in /runs/a"
    assert in_words(BEGIN | {"step": 20, "resumed": True}) == "going on after step 20 of 60, in /runs/a"
    held_out = {"event": "held_out", "step": 20, "reward": 0.5, "second_reward": 0.375, "best": True}
    assert in_words(held_out) == "held out after step 20: reward 0.500, by the second reader 0.375, the best so far"


def show(display: TrainingDisplay) -> None:
    with display:
        display.training(BEGIN)
        display.training(step(1))
        display.training({"event": "saved", "step": 1, "checkpoint": "/runs/a/checkpoints/checkpoint-1"})
        display.training({"event": "held_out", "step": 1, "reward": 0.5, "best": True})
        time.sleep(0.6)  # two redraws, where it is live


def test_for_scripts_every_event_is_a_line_of_json(capfd: pytest.CaptureFixture[str]) -> None:
    show(TrainingDisplay(as_json=True, live=False))
    told = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert [event["event"] for event in told] == ["begin", "step", "saved", "held_out"]
    assert told[1] == step(1)


def test_without_a_terminal_there_are_plain_lines(capfd: pytest.CaptureFixture[str]) -> None:
    show(TrainingDisplay(as_json=False, live=False))
    shown = capfd.readouterr()
    assert shown.out == ""
    assert shown.err.splitlines() == [
        "beginning at step 0 of 60, in /runs/a",
        "checkpoint saved after step 1",
        "held out after step 1: reward 0.500, the best so far",
    ]


def test_on_a_terminal_the_figures_are_live(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich then draws as on a terminal
    monkeypatch.setenv("COLUMNS", "160")
    show(TrainingDisplay(as_json=False, live=True))
    shown = capfd.readouterr().err
    assert "step 1/60, reward 0.250" in shown
    assert "best held out 0.500 after step 1" in shown


def test_asked_to_stop_the_process_around_it_is_told_first(capfd: pytest.CaptureFixture[str]) -> None:
    display, told = TrainingDisplay(as_json=False, live=False, resume="again please"), []
    display.on_stopping = lambda: told.append(capfd.readouterr().err)
    with display:
        display.training({"event": "stopping", "grace_s": 120.0})
    assert told == [""]
    display.stopped("SIGTERM")
    shown = capfd.readouterr().err
    assert "saving a checkpoint, at most 2 min 00 s" in shown
    assert "again please" in shown
