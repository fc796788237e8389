"""The trainer: seeded captions, greedy evaluations, kept rollouts, a time split, missing rewards."""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from caprl_core.recipe.load import load_training_recipe
from caprl_core.recipe.training import TrainingRecipe
from caprl_core.reward.score import Score
from caprl_core.training.arguments import training_arguments
from caprl_core.training.policy import load_policy
from caprl_core.training.questions import taught_sets
from caprl_core.training.recorder import Recorder
from caprl_core.training.rewarding import CaptionReward, Reader
from caprl_core.training.task import task_dataset
from caprl_core.training.trainer import CaptionTrainer, StepRollouts
from caprl_core.world.question_set import write_question_set
from support.world_training import world_recipe

STEPS = 2


class Trained:
    """A trainer with all it was told."""

    def __init__(self, recipe: TrainingRecipe, folder: Path, reader: Reader | None = None) -> None:
        train, held_out = taught_sets(recipe, folder / "sets")
        questions = {**train.questions, **held_out.questions}
        self.held_out = held_out.questions
        self.seen: list[StepRollouts] = []
        self.logs: list[dict[str, Any]] = []
        self.folder = folder
        self.recorder = Recorder(folder, recipe, questions, self.logs.append)
        policy = load_policy(recipe, None)
        self.trainer = CaptionTrainer(
            recipe=recipe,
            reward=CaptionReward(reader or Reader(recipe.reward), questions),
            seen=self._seen,
            model=policy.model,
            processing_class=policy.processor,
            args=training_arguments(recipe, folder, resumes=False),
            train_dataset=task_dataset(train, recipe.policy, held_out=False),
            eval_dataset=task_dataset(held_out, recipe.policy, held_out=True),
        )
        self.trainer.train()

    def _seen(self, step: StepRollouts) -> None:
        self.seen.append(step)
        self.recorder.seen(step)

    def captions(self, step: int) -> list[str]:
        return [
            one.caption for found in self.seen if found.step == step and not found.held_out for one in found.rollouts
        ]


def recipe_of(folder: Path, **changes: Any) -> TrainingRecipe:
    return load_training_recipe(world_recipe(folder, steps=STEPS, evaluation__every=STEPS, **changes))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = tmp_path_factory.mktemp("trained")
    return Trained(recipe_of(folder), folder / "run")


def test_a_step_has_its_groups_side_by_side(trained: Trained) -> None:
    step = next(found for found in trained.seen if found.step == 1 and not found.held_out)
    keys = [one.key for one in step.rollouts]
    assert len(keys) == 16
    assert all(keys[place] == keys[place - place % 4] for place in range(16))
    assert len(set(keys)) == 4
    assert step.advantages is not None
    assert abs(sum(step.advantages)) < 1e-3  # each group's sum to nothing
    # Captions of a group are different draws.
    assert any(len({one.caption for one in step.rollouts[start : start + 4]}) > 1 for start in range(0, 16, 4))


def test_held_out_captions_are_one_a_picture_and_asked_every_question_once(trained: Trained) -> None:
    first, last = [found for found in trained.seen if found.held_out]
    assert (first.step, last.step) == (0, STEPS)
    assert [one.key for one in first.rollouts] == [one.key for one in last.rollouts]
    assert len({one.key for one in first.rollouts}) == 6
    for before, after in zip(first.rollouts, last.rollouts, strict=True):
        asked = {draw.question_id for draw in before.score.draws}
        assert asked == {draw.question_id for draw in after.score.draws}
        assert len(asked) == len(before.score.draws) == len(trained.held_out[before.key])


def test_captions_depend_on_weights_and_seed_alone(trained: Trained, tmp_path: Path) -> None:
    """The same step in micro-batches of four, after other draws: the same captions."""
    import torch

    torch.manual_seed(999)
    again = Trained(recipe_of(tmp_path, execution__micro_batch=4), tmp_path / "run")
    assert again.captions(1) == trained.captions(1)
    other = Trained(recipe_of(tmp_path / "other", seed=1), tmp_path / "other" / "run")
    assert other.captions(1) != trained.captions(1)


def test_each_step_draws_anew_and_evaluations_draw_nothing(tmp_path: Path) -> None:
    """Weights that stay the same, and the same four pictures in each step."""
    four = str(write_question_set(tmp_path / "four.parquet", "train", 4))
    recipe = recipe_of(tmp_path, questions__train=four, optimiser__learning_rate=1e-20)
    run = Trained(recipe, tmp_path / "run")
    first, second = ({one.key for one in found.rollouts} for found in run.seen if not found.held_out)
    assert first == second
    assert sorted(run.captions(1)) != sorted(run.captions(2))
    before, after = ({one.key: one.caption for one in found.rollouts} for found in run.seen if found.held_out)
    assert before == after


def test_every_rollout_is_kept_with_its_questions_and_answers(trained: Trained) -> None:
    rows = pq.read_table(trained.folder / "rollouts" / "step-000001.parquet").to_pylist()
    assert [row["rollout"] for row in rows] == [0, 1, 2, 3] * 4
    for row in rows:
        assert len(row["draws"]) == 8 or (row["truncated"] and not row["draws"])
        right = 0
        for draw in row["draws"]:
            assert draw["options"][-1] == "cannot answer"
            assert draw["options"]["ABCDE".index(draw["gold"])] != "cannot answer"
            assert (draw["outcome"] == "right") == (draw["letter"] == draw["gold"])
            right += draw["outcome"] == "right"
        if row["draws"]:
            assert row["accuracy"] == right / 8
    held_out = pq.read_table(trained.folder / "held_out" / f"step-{STEPS:06d}.parquet")
    assert held_out.column("advantage").null_count == len(held_out) == 6


def test_the_parts_of_a_step_add_up_to_it(trained: Trained) -> None:
    lines = [event for event in trained.trainer.state.log_history if "loss" in event]
    assert len(lines) == STEPS
    for line in lines:
        parts = [line[f"time/{part}_s"] for part in ("rollout", "reader", "update", "rest")]
        assert min(parts) > 0
        assert sum(parts) == pytest.approx(line["time/step_s"], rel=1e-6)


def test_the_best_evaluation_names_the_best_checkpoint(trained: Trained) -> None:
    lines = [json.loads(line) for line in (trained.folder / "held_out.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [0, STEPS]
    best = max(lines, key=lambda line: line["reward"])
    assert [line for line in lines if line["best"]][-1] == best


class LosesEverySecond(Reader):
    """Every second caption has no reward, as if its requests had failed for good."""

    async def score(self, captions: Any, questions: Any, step: int) -> list[Score]:
        scores = await super().score(captions, questions, step)
        return [
            Score(one.key, one.rollout, None, None, (), {}, "too_few_answers") if number % 2 else one
            for number, one in enumerate(scores)
        ]


def test_a_missing_reward_moves_nothing(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path)
    run = Trained(recipe, tmp_path / "run", LosesEverySecond(recipe.reward))
    rows = pq.read_table(run.folder / "rollouts" / "step-000001.parquet").to_pylist()
    assert all(row["advantage"] == 0 and row["reason"] == "too_few_answers" for row in rows[1::2])
    for start in range(0, 16, 4):
        known = [row["reward"] for row in rows[start : start + 4 : 2]]
        advantages = [row["advantage"] for row in rows[start : start + 4 : 2]]
        # The mean is that of those that have a reward: were the missing ones zeros, both would be above it.
        assert sum(advantages) == pytest.approx(0, abs=1e-3)
        assert (advantages[0] > advantages[1]) == (known[0] > known[1])
    history = [line for line in run.trainer.state.log_history if "loss" in line]
    assert all(abs(line["loss"]) < 10 for line in history)
