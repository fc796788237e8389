"""A training recipe in the words of TRL's configuration."""

from pathlib import Path
from typing import Any

from caprl_core.recipe.training import TrainingRecipe

CHECKPOINTS = "checkpoints"


def training_arguments(recipe: TrainingRecipe, work: Path, *, resumes: bool) -> Any:
    """`trl.GRPOConfig`; every default that differs from the recipe's is said (fact sheet 2, design section 9)."""
    import torch  # noqa: PLC0415 - seconds to import
    from trl import GRPOConfig  # noqa: PLC0415

    grpo, optimiser, execution = recipe.grpo, recipe.optimiser, recipe.execution
    captions = grpo.groups * grpo.rollouts
    accumulated = captions // (execution.micro_batch * execution.processes)
    gpu = torch.cuda.is_available()
    schedule, schedule_settings = _schedule(recipe)
    return GRPOConfig(
        output_dir=str(work / CHECKPOINTS),
        seed=recipe.seed,
        data_seed=recipe.seed,
        report_to="none",
        disable_tqdm=True,
        # What is computed where.
        use_cpu=not gpu,
        bf16=execution.precision == "bfloat16" and gpu,
        gradient_checkpointing=execution.gradient_checkpointing,
        dataloader_pin_memory=gpu,
        model_init_kwargs=None if recipe.policy.model.revision is None else {"revision": recipe.policy.model.revision},
        trust_remote_code=execution.trust_remote_code,
        # Batches. One step is one generation batch and one update of the weights.
        per_device_train_batch_size=execution.micro_batch,
        gradient_accumulation_steps=accumulated,
        steps_per_generation=accumulated,
        max_steps=recipe.steps,
        # Rollouts.
        num_generations=grpo.rollouts,
        max_completion_length=grpo.max_tokens,
        temperature=grpo.temperature,
        top_p=grpo.top_p,
        top_k=max(grpo.top_k, 0),
        **_rollouts(recipe),
        # Loss.
        beta=grpo.kl,
        epsilon=grpo.clip,
        loss_type=grpo.loss,
        scale_rewards=grpo.advantage,
        mask_truncated_completions=grpo.mask_truncated,
        # Optimiser.
        learning_rate=optimiser.learning_rate,
        lr_scheduler_type=schedule,
        lr_scheduler_kwargs=schedule_settings,
        warmup_steps=optimiser.warmup_steps,
        adam_beta1=optimiser.betas[0],
        adam_beta2=optimiser.betas[1],
        weight_decay=optimiser.weight_decay,
        max_grad_norm=optimiser.max_grad_norm,
        # What is watched and kept.
        logging_steps=1,
        logging_nan_inf_filter=False,
        eval_strategy="steps",
        eval_steps=recipe.evaluation.every,
        eval_on_start=not resumes,
        per_device_eval_batch_size=execution.evaluation_batch,
        num_generations_eval=1,
        save_strategy="steps",
        save_steps=execution.checkpoint_every,
        save_total_limit=None,  # it would count the best one in; `remove_old` deletes them
    )


def _schedule(recipe: TrainingRecipe) -> tuple[str, dict[str, Any]]:
    optimiser = recipe.optimiser
    if optimiser.schedule == "constant":
        return "constant_with_warmup", {}
    if optimiser.schedule == "cosine" and optimiser.final_share > 0:
        return "cosine_with_min_lr", {"min_lr_rate": optimiser.final_share}
    return optimiser.schedule, {}


def _rollouts(recipe: TrainingRecipe) -> dict[str, Any]:
    rollouts = recipe.execution.rollouts
    if rollouts.kind == "transformers":
        # Draws are made by our own processor from a seed for each caption; what is left is the largest score.
        return {"use_vllm": False, "generation_kwargs": {"do_sample": False}}
    settings: dict[str, Any] = {"use_vllm": True, "vllm_max_model_length": rollouts.max_model_len}
    if rollouts.kind == "vllm_server":
        return settings | {"vllm_mode": "server", "vllm_server_base_url": rollouts.server_url}
    return settings | {
        "vllm_mode": "colocate",
        "vllm_gpu_memory_utilization": rollouts.gpu_memory_utilization,
        "vllm_tensor_parallel_size": rollouts.tensor_parallel,
        "vllm_enable_sleep_mode": rollouts.sleep,
    }
