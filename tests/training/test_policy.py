"""The policy: a resumed run goes on with the checkpoint's weights, and its KL penalty still points to the start."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText, AutoProcessor, TrainerCallback
from trl import GRPOTrainer

from caprl_core.errors import BadInputError
from caprl_core.recipe.load import load_training_recipe
from caprl_core.recipe.training import LoraRecipe, TrainingRecipe
from caprl_core.training.arguments import training_arguments
from caprl_core.training.policy import load_policy, policy_source
from caprl_core.training.questions import taught_sets
from caprl_core.training.rewarding import CaptionReward, Reader
from caprl_core.training.task import task_dataset
from caprl_core.training.trainer import CaptionTrainer
from support.world_training import training_process, world_recipe

Weights = dict[str, torch.Tensor]
START = Path(__file__).parents[2] / "caprl_core/world/weights/captioner"
IN_MEMORY = {"model.": "model.language_model.", "visual.": "model.visual.", "lm_head.": "lm_head."}
"""How names begin on disk, and in the model."""


class Seen(Exception):
    """Ends a training once its first step has begun."""


class FirstStep(TrainerCallback):
    """Shows the model as the first step finds it, and ends there."""

    def __init__(self, look: Callable[[Any], None]) -> None:
        self._look = look

    def on_step_begin(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        self._look(model)
        raise Seen


class Run:
    """A run that came to its end after four steps, with checkpoints after the second and the last."""

    def __init__(self, folder: Path, **changes: Any) -> None:
        file = world_recipe(folder, steps=4, evaluation__every=4, optimiser__warmup_steps=0, **changes)
        process = training_process(file)
        told, problems = process.communicate()
        assert process.returncode == 0, told[-2000:] + problems[-2000:]
        self.recipe: TrainingRecipe = load_training_recipe(file)
        self.folder = folder / "run"
        self.checkpoint = self.folder / "checkpoints" / "checkpoint-2"

    def trainer(self) -> CaptionTrainer:
        """As `run.py` makes it to resume at the checkpoint."""
        policy = load_policy(self.recipe, self.checkpoint)
        train, held_out = taught_sets(self.recipe, self.folder / "sets")
        return CaptionTrainer(
            recipe=self.recipe,
            reward=CaptionReward(Reader(self.recipe.reward), train.questions),
            seen=lambda _: None,
            model=policy.model,
            processing_class=policy.processor,
            peft_config=policy.adapters,
            args=training_arguments(self.recipe, self.folder, resumes=True),
            train_dataset=task_dataset(train, self.recipe.policy, held_out=False),
            eval_dataset=task_dataset(held_out, self.recipe.policy, held_out=True),
        )

    def weights_of_first_step(self, trainer: GRPOTrainer) -> Weights:
        """After `train(resume_from_checkpoint=…)` has done whatever it does."""
        found: Weights = {}
        trainer.add_callback(FirstStep(lambda model: found.update(copied(trainer.accelerator.unwrap_model(model)))))
        with pytest.raises(Seen):
            trainer.train(resume_from_checkpoint=str(self.checkpoint))
        assert trainer.state.global_step == 2
        return found


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run(tmp_path_factory.mktemp("whole"))


@pytest.fixture(scope="module")
def adapted(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run(tmp_path_factory.mktemp("adapters"), policy__lora={"rank": 4, "alpha": 8})


def copied(model: Any) -> Weights:
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def on_disk(folder: Path) -> Weights:
    """Read without transformers, by the names of the model in memory."""
    found = {}
    for name, tensor in load_file(folder / "model.safetensors").items():
        begins = next(start for start in IN_MEMORY if name.startswith(start))
        found[IN_MEMORY[begins] + name.removeprefix(begins)] = tensor
    return found


def check_equal(ours: Weights, theirs: Weights) -> None:
    """All of `theirs`; what else `ours` has are the same tensors under a second name (tied weights)."""
    assert theirs.keys() <= ours.keys()
    assert {name.split(".")[-2] for name in ours.keys() - theirs.keys()} <= {"lm_head"}
    for name, tensor in theirs.items():
        assert torch.equal(ours[name].float(), tensor.float()), name


def moved(ours: Weights, theirs: Weights) -> bool:
    return any(not torch.equal(ours[name].float(), theirs[name].float()) for name in theirs)


# All weights.


def test_a_checkpoint_differs_from_the_start_or_nothing_below_is_shown(run: Run) -> None:
    assert moved(on_disk(run.checkpoint), on_disk(START))
    assert moved(on_disk(run.folder / "checkpoints/checkpoint-4"), on_disk(run.checkpoint))


def test_the_start_is_loaded_in_float32(run: Run) -> None:
    policy = load_policy(run.recipe, None)
    check_equal(copied(policy.model), on_disk(START))
    assert {weight.dtype for weight in policy.model.parameters()} == {torch.float32}
    assert policy.adapters is None


def test_every_weight_is_the_checkpoints(run: Run) -> None:
    check_equal(copied(load_policy(run.recipe, run.checkpoint).model), on_disk(run.checkpoint))


def test_every_weight_is_still_the_checkpoints_when_the_resumed_training_has_begun(run: Run) -> None:
    check_equal(run.weights_of_first_step(run.trainer()), on_disk(run.checkpoint))


def test_the_optimiser_goes_on_with_its_moments(run: Run) -> None:
    trainer = run.trainer()
    run.weights_of_first_step(trainer)
    state = trainer.optimizer.state_dict()["state"]
    saved = torch.load(run.checkpoint / "optimizer.pt", weights_only=True)["state"]
    assert len(state) == len(saved) > 0
    for number, moments in saved.items():
        assert moments["step"] == state[number]["step"] == 2
        assert torch.equal(state[number]["exp_avg"], moments["exp_avg"])
        assert torch.equal(state[number]["exp_avg_sq"], moments["exp_avg_sq"])


def test_the_reference_of_the_penalty_is_the_start_and_not_the_checkpoint(run: Run) -> None:
    trainer = run.trainer()
    run.weights_of_first_step(trainer)
    check_equal(copied(trainer.accelerator.unwrap_model(trainer.ref_model)), on_disk(START))


def test_trl_alone_would_lose_the_checkpoints_weights(run: Run) -> None:
    """Why `load_policy` exists: TRL's own way to resume trains on from the start, with the checkpoint's optimiser."""
    train, _ = taught_sets(run.recipe, run.folder / "sets")
    trainer = GRPOTrainer(
        model=AutoModelForImageTextToText.from_pretrained(START, dtype=torch.float32),
        processing_class=AutoProcessor.from_pretrained(START, padding_side="left"),
        reward_funcs=lambda completions, **_: [float(len(text[0]["content"])) for text in completions],
        args=training_arguments(run.recipe, run.folder, resumes=True),
        train_dataset=task_dataset(train, run.recipe.policy, held_out=False),
        eval_dataset=task_dataset(train, run.recipe.policy, held_out=True),
    )
    found = run.weights_of_first_step(trainer)
    if not moved(found, on_disk(run.checkpoint)):
        pytest.skip("these versions of transformers and trl restore the weights: load_policy may leave it to them")
    check_equal(found, on_disk(START))


def test_a_checkpoint_that_lacks_weights_is_refused(run: Run, tmp_path: Path) -> None:
    broken = tmp_path / "checkpoint-2"
    shutil.copytree(run.checkpoint, broken)
    weights = load_file(broken / "model.safetensors")
    del weights["visual.patch_embed.proj.weight"]
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(BadInputError, match=r"checkpoint-2: 1 weights are not in it.*patch_embed"):
        load_policy(run.recipe, broken)


def test_a_checkpoint_of_another_shape_is_refused(run: Run, tmp_path: Path) -> None:
    broken = tmp_path / "checkpoint-2"
    shutil.copytree(run.checkpoint, broken)
    weights = load_file(broken / "model.safetensors")
    weights["model.norm.weight"] = torch.ones(7)
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(
        BadInputError, match=r"checkpoint-2: 1 weights .* of another shape.*language_model\.norm\.weight"
    ):
        load_policy(run.recipe, broken)


def test_a_cut_file_of_weights_is_refused(run: Run, tmp_path: Path) -> None:
    broken = tmp_path / "checkpoint-2"
    shutil.copytree(run.checkpoint, broken)
    weights = (broken / "model.safetensors").read_bytes()
    (broken / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    with pytest.raises(BadInputError, match=r"checkpoint-2 cannot be loaded to be trained"):
        load_policy(run.recipe, broken)


def test_what_is_no_captioner_is_refused(run: Run, tmp_path: Path) -> None:
    for model_path in (str(START.parent / "reader"), str(tmp_path / "nowhere")):
        execution = run.recipe.execution.model_copy(update={"model_path": model_path})
        with pytest.raises(BadInputError, match=r"policy\.model"):
            load_policy(run.recipe.model_copy(update={"execution": execution}), None)


# Adapters.


def adapters_on_disk(folder: Path) -> Weights:
    return load_file(folder / "adapter_model.safetensors")


def split(weights: Weights) -> tuple[Weights, Weights]:
    """The adapters by their names on disk, and the weights below them by the names of the model without adapters."""
    adapters = {name.replace(".default.", "."): tensor for name, tensor in weights.items() if ".lora_" in name}
    base = {
        name.removeprefix("base_model.model.").replace(".base_layer.", "."): tensor
        for name, tensor in weights.items()
        if ".lora_" not in name
    }
    return adapters, base


def test_a_checkpoint_of_adapters_holds_nothing_else(adapted: Run) -> None:
    saved = adapters_on_disk(adapted.checkpoint)
    assert saved
    assert all(".lora_" in name for name in saved)
    assert any(bool(tensor.any()) for name, tensor in saved.items() if ".lora_B." in name), "they have not learnt"
    settings = json.loads((adapted.checkpoint / "adapter_config.json").read_text())
    assert (settings["r"], settings["lora_alpha"]) == (4, 8)


def test_adapters_are_the_checkpoints_and_what_is_below_them_is_the_start(adapted: Run) -> None:
    adapters, base = split(adapted.weights_of_first_step(adapted.trainer()))
    saved = adapters_on_disk(adapted.checkpoint)
    assert adapters.keys() == saved.keys()
    assert all(torch.equal(adapters[name], saved[name]) for name in saved)
    check_equal(base, on_disk(START))


def test_only_adapters_learn(adapted: Run) -> None:
    trainer = adapted.trainer()
    learning = {name for name, weight in trainer.model.named_parameters() if weight.requires_grad}
    assert learning
    assert all(".lora_" in name for name in learning)


def test_the_reference_is_the_model_without_adapters(adapted: Run) -> None:
    trainer = adapted.trainer()
    adapted.weights_of_first_step(trainer)
    assert trainer.ref_model is None
    model = trainer.accelerator.unwrap_model(trainer.model).eval()
    start = AutoModelForImageTextToText.from_pretrained(START, dtype=torch.float32).eval()
    tokens = torch.arange(5, 17)[None]
    with torch.no_grad():
        learnt, expected = model(input_ids=tokens).logits, start(input_ids=tokens).logits
        with model.disable_adapter():
            reference = model(input_ids=tokens).logits
    assert torch.equal(reference, expected)
    assert not torch.allclose(learnt, expected, atol=1e-4)


def test_new_adapters_are_the_same_in_every_attempt(adapted: Run) -> None:
    """A run killed before its first checkpoint begins anew, with what a run of that seed begins with."""
    first = Run.__new__(Run)
    first.recipe, first.folder, first.checkpoint = adapted.recipe, adapted.folder, None  # type: ignore[assignment]
    begun = []
    for disturbance in (1, 2):
        torch.manual_seed(disturbance)
        adapters, _ = split(copied(first.trainer().model))
        begun.append(adapters)
    assert all(torch.equal(begun[0][name], begun[1][name]) for name in begun[0])


@pytest.mark.parametrize("lora", [None, LoraRecipe(rank=2, alpha=4)], ids=["all weights", "adapters"])
@pytest.mark.parametrize("vision", ["learns", "stays"])
def test_the_vision_tower_learns_or_stays(run: Run, vision: str, lora: LoraRecipe | None) -> None:
    policy = run.recipe.policy.model_copy(update={"vision": vision, "lora": lora})
    loaded = load_policy(run.recipe.model_copy(update={"policy": policy}), None)
    model = loaded.model if lora is None else get_peft_model(loaded.model, loaded.adapters)
    learning = [name for name, weight in model.named_parameters() if weight.requires_grad]
    assert any(".language_model." in name for name in learning)
    assert any(".visual." in name for name in learning) == (vision == "learns")


def test_the_policy_is_where_the_recipe_says(run: Run) -> None:
    assert policy_source(run.recipe) == str(START)
    execution = run.recipe.execution.model_copy(update={"model_path": None})
    assert policy_source(run.recipe.model_copy(update={"execution": execution})) == "world/captioner"
