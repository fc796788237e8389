"""Where a training step's time goes, and what our reward path and seeded rollouts cost beside plain TRL."""

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from transformers import TrainerCallback
from trl import GRPOTrainer

from bench.measuring import Report, middle, options
from caprl_core.engines.protocol import EngineInfo, Reply, Request
from caprl_core.recipe.training import TrainingRecipe
from caprl_core.training.arguments import training_arguments
from caprl_core.training.policy import load_policy
from caprl_core.training.questions import TaughtSet, taught_sets
from caprl_core.training.recorder import Recorder
from caprl_core.training.rewarding import CaptionReward, Reader
from caprl_core.training.task import task_dataset
from caprl_core.training.trainer import CaptionTrainer
from caprl_core.world.question_set import write_question_set

METHOD = """The embedded world, 8 pictures x 8 captions a step, 4 draws each, float32, one process. Split: our trainer
with the tiny reader in its process. Overhead: plain GRPOTrainer with a constant reward function, and our trainer with
a reader that answers at once (so that what is left is drawing, requests, reading, records and seeded sampling), take
turns of a few steps at a learning rate of 1e-12, so that both write captions of the same kind; medians of all their
steps, records included."""


class AnswersAtOnce:
    """A reader without a model. Replies differ, as rewards that are all equal would skip nothing but mean nothing."""

    concurrency = 256
    image_encoding = "png"

    async def start(self) -> EngineInfo:
        return EngineInfo("none", "1", "none", None)

    async def generate(self, request: Request) -> Reply:
        return Reply("ABCD"[(request.sampling.seed or 0) % 4], "stop", 0, 1, 0.0)

    async def close(self) -> None:
        pass


class InstantReader(Reader):
    """Reads without a model."""

    async def score(self, *arguments: Any, **keywords: Any) -> Any:
        if self._engine is None:
            self._engine = AnswersAtOnce()
        return await super().score(*arguments, **keywords)


class StepTimes(TrainerCallback):
    """Wall seconds of each step, as the trainer's user sees them."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._began = 0.0

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self._began = time.perf_counter()

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        if "loss" in (logs or {}):
            self.seconds.append(time.perf_counter() - self._began)


def recipe_in(folder: Path, steps: int, rate: float) -> TrainingRecipe:
    """The world's recipe over its own pictures, without evaluations or checkpoints."""
    recipe = yaml.safe_load(Path("configs/grpo-world.yaml").read_text())
    recipe["questions"] = {
        "train": str(write_question_set(folder / "train.parquet", "train", 256)),
        "held_out": str(write_question_set(folder / "held_out.parquet", "held_out", 8)),
    }
    recipe["reward"]["execution"]["engine"]["model_path"] = "caprl_core/world/weights/reader"
    recipe["steps"] = steps
    recipe["optimiser"] |= {"learning_rate": rate}
    recipe["evaluation"] |= {"every": 10_000}
    recipe["execution"] |= {
        "output": str(folder / "run"),
        "model_path": "caprl_core/world/weights/captioner",
        "checkpoint_every": 10_000,
    }
    return TrainingRecipe.model_validate(recipe)


def trainer_of(recipe: TrainingRecipe, train: TaughtSet, folder: Path, reward: Any, *, plain: bool) -> Any:
    """A trainer that is ready to train."""
    policy = load_policy(recipe, None)
    arguments = training_arguments(recipe, folder, resumes=True)
    arguments.eval_strategy = "no"
    if plain:
        arguments.generation_kwargs = None  # TRL's own sampling
    common: dict[str, Any] = {
        "model": policy.model,
        "processing_class": policy.processor,
        "args": arguments,
        "train_dataset": task_dataset(train, recipe.policy, held_out=False),
    }
    if plain:
        return GRPOTrainer(reward_funcs=[reward], **common)
    recorder = Recorder(folder, recipe, train.questions, lambda _: None)
    return CaptionTrainer(recipe=recipe, reward=reward, seen=recorder.seen, **common)


def constant(completions: Sequence[Any], **_: Any) -> list[float]:
    return [0.5] * len(completions)


def trained(trainer: Any) -> list[float]:
    """Seconds of its steps but for the first two, which warm up."""
    times = StepTimes()
    trainer.add_callback(times)
    trainer.train()
    return times.seconds[2:]


class Split(TrainerCallback):
    """The trainer's own time split."""

    def __init__(self) -> None:
        self.logs: list[dict[str, float]] = []

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        if "loss" in (logs or {}):
            self.logs.append(dict(logs))


def main() -> None:
    arguments = options(__doc__).parse_args()
    report = Report("training_step", METHOD, quick=arguments.quick, packages=("torch", "transformers", "trl"))
    steps, turns = (4, 1) if arguments.quick else (14, 3)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        recipe = recipe_in(folder, steps, 3e-4)
        train, _ = taught_sets(recipe, folder / "sets")
        split = Split()
        trainer = trainer_of(
            recipe, train, folder / "split", CaptionReward(Reader(recipe.reward), train.questions), plain=False
        )
        trainer.add_callback(split)
        trainer.train()
        for part in ("rollout", "reader", "update", "rest", "step"):
            report.figure(f"{part}", middle([line[f"time/{part}_s"] for line in split.logs[2:]]), "s")
        still = recipe_in(folder, steps, 1e-12)
        ours: list[float] = []
        plain: list[float] = []
        reward_path: list[float] = []
        for turn in range(turns):
            plain += trained(trainer_of(still, train, folder / f"plain-{turn}", constant, plain=True))
            reward = CaptionReward(InstantReader(still.reward), train.questions)
            trainer = trainer_of(still, train, folder / f"ours-{turn}", reward, plain=False)
            split = Split()
            trainer.add_callback(split)
            ours += trained(trainer)
            reward_path += [line["time/reader_s"] for line in split.logs[2:]]
    report.figure("a step of plain TRL, constant reward", middle(plain), "s")
    report.figure("a step of ours, instant reader", middle(ours), "s")
    report.figure("of that the reward path", middle(reward_path), "s")
    report.require("the reward path's share of a step", middle(reward_path) / middle(ours), most=0.05)
    report.figure("a step of ours / a step of plain TRL", middle(ours) / middle(plain), "x")
    report.finish()


if __name__ == "__main__":
    main()
