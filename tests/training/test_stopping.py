"""A run that goes wrong ends early, with all that it has; and stays ended."""

from pathlib import Path

from caprl_core.training.checkpoints import newest_checkpoint
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
