"""A run that goes wrong ends early, with all that it has; and stays ended."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from caprl_core.exit_codes import ExitCode
from caprl_core.training.checkpoints import newest_checkpoint
from support.training_zygote import Zygote
from support.world_training import lines, training_process, world_recipe


def test_a_collapsed_run_stops_with_a_checkpoint_an_evaluation_and_a_captioner(tmp_path: Path) -> None:
    """Any policy is "certain" by a limit of 100 nats: judged when two steps are known, it ends with the next."""
    recipe = world_recipe(
        tmp_path,
        steps=6,
        evaluation__every=5,
        execution__checkpoint_every=5,
        collapse={"window": 2, "entropy_below": 100.0},
    )
    process = training_process(recipe)
    events, words = process.communicate(timeout=250)
    assert process.returncode == 0, words
    assert '"reason": "collapse"' in events
    run = tmp_path / "run"
    assert [line["step"] for line in lines(run / "metrics.jsonl")] == [1, 2, 3]
    assert [line["step"] for line in lines(run / "held_out.jsonl")] == [0, 3]
    assert newest_checkpoint(run / "checkpoints") == run / "checkpoints" / "checkpoint-3"
    stopped = (run / "stopped.json").read_text()
    assert "collapse" in stopped
    assert "collapse.entropy_below" in stopped
    assert (run / "captioner" / "model.safetensors").is_file()

    again = training_process(recipe)
    events, words = again.communicate(timeout=250)
    assert again.returncode == 0, words
    assert '"event": "begin", "step": 3' in events
    assert [line["step"] for line in lines(run / "metrics.jsonl")] == [1, 2, 3], "it must not go on to collapse further"


@pytest.fixture(scope="module")
def zygote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zygote]:
    process = Zygote(tmp_path_factory.mktemp("events"))
    yield process
    process.close()


def losing_its_weights(folder: Path, **changes: Any) -> Path:
    """The first update moves every weight by 1e30: the loss of step 2 is no number."""
    return world_recipe(
        folder,
        optimiser__learning_rate=1e30,
        optimiser__warmup_steps=0,
        steps=20,
        evaluation__every=10,
        **changes,
    )


def test_weights_lost_before_the_first_checkpoint_leave_advice_that_can_be_followed(
    zygote: Zygote, tmp_path: Path
) -> None:
    recipe, run = losing_its_weights(tmp_path, execution__checkpoint_every=10), tmp_path / "run"
    for _ in range(2):  # there is nothing to go on from: the same command begins anew
        status, told = zygote.run(recipe)
        assert status == ExitCode.BAD_INPUT
        assert (told[0]["event"], told[0]["step"]) == ("begin", 0)
        assert [event["step"] for event in told if event["event"] == "step"] == [1, 2]
        assert told[-1]["event"] == "error"
        assert "nothing to export: loss was nan at step 2" in told[-1]["error"]
        assert "Lower optimiser.learning_rate" in told[-1]["error"]
        assert "checkpoint before" not in told[-1]["error"]
        assert newest_checkpoint(run / "checkpoints") is None, "lost weights are not saved"
        assert json.loads((run / "stopped.json").read_text())["step"] == 2
    assert [line["step"] for line in lines(run / "metrics.jsonl")] == [1, 2]


def test_weights_lost_after_a_checkpoint_leave_that_one(zygote: Zygote, tmp_path: Path) -> None:
    recipe, run = losing_its_weights(tmp_path, execution__checkpoint_every=1), tmp_path / "run"
    status, told = zygote.run(recipe)
    assert status == 0
    assert [event["step"] for event in told if event["event"] == "saved"] == [1]
    assert told[-1]["exported_step"] == 1
    status, told = zygote.run(recipe)
    assert status == 0
    assert [event["event"] for event in told] == ["begin", "exported", "done"], "it stays ended"
    assert [line["step"] for line in lines(run / "metrics.jsonl")] == [1, 2], "the step that went wrong stays known"
    shutil.rmtree(run / "checkpoints/checkpoint-1")
    status, told = zygote.run(recipe)
    assert status == 0
    assert [event["step"] for event in told if event["event"] == "step"] == [1, 2], "with no checkpoint it begins anew"
