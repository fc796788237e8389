"""A run from its command to its folder: what it refuses before anything is learnt, and which checkpoints are left."""

import json
from pathlib import Path

import pytest

from caprl_core.errors import BadInputError
from caprl_core.exit_codes import ExitCode
from caprl_core.recipe.load import load_training_recipe
from caprl_core.training.checkpoints import whole_checkpoints
from caprl_core.world.question_set import write_question_set
from support.world_training import lines, training_process, world_recipe


def test_fewer_pictures_than_a_step_takes_are_refused_before_anything_is_begun(tmp_path: Path) -> None:
    few = str(write_question_set(tmp_path / "few.parquet", "train", 3))
    process = training_process(world_recipe(tmp_path, questions__train=few))
    told, words = process.communicate(timeout=250)
    assert process.returncode == ExitCode.BAD_INPUT, words
    events = [json.loads(line) for line in told.splitlines()]
    assert [event["event"] for event in events] == ["error"]
    assert few in events[0]["error"]
    assert "3 pictures" in events[0]["error"]
    assert "grpo.groups = 4" in events[0]["error"]


def test_the_best_checkpoint_is_kept_besides_the_latest(tmp_path: Path) -> None:
    unwatched = dict.fromkeys(("truncated", "repetitive", "abstained", "length_factor", "entropy_below"))
    recipe = world_recipe(
        tmp_path,
        # So far a step that the captioner is at its best after one of the first and worse from then on.
        optimiser={"learning_rate": 3e-2, "schedule": "linear", "warmup_steps": 1},
        steps=5,
        evaluation__every=1,
        collapse=unwatched,
        execution__checkpoint_every=1,
        execution__checkpoints_kept=2,
    )
    process = training_process(recipe)
    told, words = process.communicate(timeout=250)
    assert process.returncode == 0, words
    run = tmp_path / "run"
    rewards = {line["step"]: line["reward"] for line in lines(run / "held_out.jsonl") if line["step"] > 0}
    best = max(rewards, key=lambda step: (rewards[step], step))
    assert best < 4, "the best is one of the latest: no test"
    assert set(whole_checkpoints(run / "checkpoints")) == {best, 4, 5}
    assert f'"exported_step": {best}' in told


@pytest.mark.parametrize(
    ("changes", "field"), [({"seed": 2**32}, "seed"), ({"grpo__updates": 2}, "grpo.updates")], ids=["seed", "updates"]
)
def test_what_training_cannot_do_is_refused_with_the_recipe(tmp_path: Path, changes: dict, field: str) -> None:
    with pytest.raises(BadInputError, match=field):
        load_training_recipe(world_recipe(tmp_path, **changes))
