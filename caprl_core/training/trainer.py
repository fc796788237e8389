"""TRL's GRPO trainer with seeded rollouts, greedy held-out captions, kept rollouts and a time split."""

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from accelerate.utils import gather_object
from trl import GRPOTrainer

from caprl_core.engines.protocol import Sampling
from caprl_core.engines.seeded_sampling import SeededSampling
from caprl_core.recipe.training import TrainingRecipe
from caprl_core.training.checkpoints import step_of
from caprl_core.training.rewarding import CaptionReward
from caprl_core.training.rollouts import Rollout


class StepRollouts(NamedTuple):
    """All captions of a step over all processes, in the order of the batch; `held_out` ones are one a picture."""

    step: int
    held_out: bool
    rollouts: list[Rollout]
    advantages: list[float] | None


class CaptionTrainer(GRPOTrainer):  # type: ignore[misc]  # trl is untyped for us
    """Adds to TRL what it lacks, and changes nothing of its loss.

    Each caption is drawn from a seed of its own, made of (seed, picture, step, place in the group): the captions of a
    step depend on the weights alone, not on the processes or batches they were written in nor on what was drawn before.
    With vLLM writing the captions its own random numbers are used.
    """

    def __init__(
        self,
        *,
        recipe: TrainingRecipe,
        reward: CaptionReward,
        seen: Callable[[StepRollouts], None],
        **settings: Any,
    ) -> None:
        """`seen` is told, on the main process, of each step's rollouts and of each evaluation's; `settings` are
        `GRPOTrainer`'s own."""
        self._recipe = recipe
        self._seen = seen
        self._inputs: list[str] = []
        self._collected: list[Rollout] = []
        self._spent = {"rollout_s": 0.0, "reader_s": 0.0, "prepare_s": 0.0, "step_s": 0.0}
        self._reward = reward
        self._done = 0
        super().__init__(reward_funcs=[self._reward], **settings)
        self._reward.end_tokens = frozenset(self.eos_token_ids)

    # Rollouts.

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        self._inputs = [row["key"] for row in inputs]
        found = super()._generate_and_score_completions(inputs)
        if self.model.training:
            rollouts, self._collected = self._collected, []
            if self.accelerator.is_main_process:
                advantages = list(self._logs["advantages"])[-len(rollouts) :]
                self._seen(StepRollouts(self.state.global_step + 1, False, rollouts, advantages))
        return dict(found)

    def _generate_single_turn(
        self, prompt_ids: Any, images: Any, multimodal_fields: Any, num_generations: int, **settings: Any
    ) -> Any:
        began = time.perf_counter()
        temperature = self.temperature if self.model.training else 0.0
        with self._drawing(temperature) if not self.use_vllm else self._at_temperature(temperature):
            found = super()._generate_single_turn(prompt_ids, images, multimodal_fields, num_generations, **settings)
        self._spent["rollout_s"] += time.perf_counter() - began
        return found

    @contextmanager
    def _drawing(self, temperature: float) -> Iterator[None]:
        """While this lasts, the policy's `generate` draws each row from the row's seed."""
        model = self.accelerator.unwrap_model(self.model)
        size = self.num_generations if model.training else 1
        first = self.accelerator.process_index * len(self._inputs)
        draws = SeededSampling(
            [
                Sampling(
                    temperature=temperature,
                    top_p=self.top_p,
                    top_k=self._recipe.grpo.top_k,
                    seed=_seed(self._recipe.seed, key, self.state.global_step, (first + place) % size),
                )
                for place, key in enumerate(self._inputs)
            ],
            [0] * len(self._inputs),  # where prompts start: only a repetition penalty asks
            self.accelerator.device,
        )
        generate = model.generate

        def drawing(*arguments: Any, **keywords: Any) -> Any:
            return generate(*arguments, logits_processor=[draws], **keywords)

        model.generate = drawing
        try:
            yield
        finally:
            del model.generate

    @contextmanager
    def _at_temperature(self, temperature: float) -> Iterator[None]:
        usual = self.vllm_generation.temperature
        self.vllm_generation.temperature = temperature
        try:
            yield
        finally:
            self.vllm_generation.temperature = usual

    def _calculate_rewards(self, inputs: Any, prompts: Any, completions: Any, completion_ids_list: Any) -> Any:
        began = time.perf_counter()
        rewards = super()._calculate_rewards(inputs, prompts, completions, completion_ids_list)
        self._collected += gather_object(self._reward.rollouts)
        self._spent["reader_s"] += time.perf_counter() - began
        return rewards

    # Evaluation.

    def evaluate(self, *arguments: Any, **keywords: Any) -> dict[str, float]:
        """Greedy captions of all held-out pictures."""
        spent = dict(self._spent)
        metrics = dict(super().evaluate(*arguments, **keywords))
        # With several processes the last batch is filled up with pictures of the first.
        once = list({one.key: one for one in self._collected}.values())
        self._collected, self._spent = [], spent
        if self.accelerator.is_main_process:
            self._seen(StepRollouts(self.state.global_step, True, once, None))
        self.accelerator.wait_for_everyone()
        return metrics

    # Time.

    def _prepare_inputs(self, generation_batch: Any) -> Any:
        began = time.perf_counter()
        found = super()._prepare_inputs(generation_batch)
        self._spent["prepare_s"] += time.perf_counter() - began
        return found

    def training_step(self, *arguments: Any, **keywords: Any) -> Any:
        """One micro-batch; at the last of a step the seconds each part took become metrics."""
        began = time.perf_counter()
        loss = super().training_step(*arguments, **keywords)
        self._spent["step_s"] += time.perf_counter() - began
        if self._step % self.current_gradient_accumulation_steps == 0:
            spent = self._spent
            split = {
                "rollout_s": spent["rollout_s"],
                "reader_s": spent["reader_s"],
                "update_s": spent["step_s"] - spent["prepare_s"],
                "rest_s": spent["prepare_s"] - spent["rollout_s"] - spent["reader_s"],
                "step_s": spent["step_s"],
            }
            for name, seconds in split.items():
                self._metrics["train"][f"time/{name}"].append(seconds)
            self._spent = dict.fromkeys(spent, 0.0)
        return loss

    # Resuming.

    def train(self, resume_from_checkpoint: str | None = None, **keywords: Any) -> Any:
        """As usual; `resume_from_checkpoint` is a checkpoint's folder, or None to begin."""
        self._done = 0 if resume_from_checkpoint is None else step_of(Path(resume_from_checkpoint))
        return super().train(resume_from_checkpoint=resume_from_checkpoint, **keywords)

    def _get_train_sampler(self, dataset: Any = None) -> Any:
        """TRL's sampler, which draws a new order each time the pictures are through, as far on as the run is.

        Transformers skips what was done of the pass it resumes in, but takes that for the sampler's first one.
        """
        sampler = super()._get_train_sampler(dataset)
        for _ in range(self._done // (sampler.num_samples // sampler.batch_size)):
            torch.randperm(sampler.num_samples, generator=sampler.generator)  # as `RepeatSampler.__iter__` draws it
        return sampler

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """Adapters are loaded as usual; whole weights were loaded, and checked, before the trainer was made."""
        if self._recipe.policy.lora is not None:
            super()._load_from_checkpoint(resume_from_checkpoint, model)


def _seed(*parts: object) -> int:
    """31 bits, the widest seed every engine takes."""
    digest = hashlib.blake2b("/".join(map(str, parts)).encode("utf-8", "surrogatepass"), digest_size=4).digest()
    return int.from_bytes(digest, "big") & 0x7FFF_FFFF
