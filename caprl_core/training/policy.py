"""The captioner that learns: loaded from its start or a checkpoint, with adapters or without, and its processor."""

import re
from pathlib import Path
from typing import Any, NamedTuple

from caprl_core.errors import BadInputError
from caprl_core.recipe.training import LoraRecipe, TrainingRecipe


class Policy(NamedTuple):
    """model: weights in float32; processor: of text and images; adapters: peft's configuration, or None."""

    model: Any
    processor: Any
    adapters: Any


_LANGUAGE = ("model.language_model.", "lm_head.")
"""Where transformers' image-and-text models keep what is not their vision tower or what joins it to the rest."""


def policy_source(recipe: TrainingRecipe) -> str:
    """Folder or hub id of the start."""
    return recipe.execution.model_path or recipe.policy.model.name


def refuse_empty_reference(recipe: TrainingRecipe) -> None:
    """To be called once the processes know each other, before anything is loaded.

    Raises `BadInputError` where the reference of the KL penalty would be made of zeros: where FSDP has only the first
    process read weights, it tells the others the policy's, but TRL 1.16 shards the reference as each process has it.
    With adapters there is no reference of its own: they are switched off.
    """
    from transformers.integrations.fsdp import is_fsdp_enabled  # noqa: PLC0415 - seconds to import

    if recipe.grpo.kl > 0 and recipe.policy.lora is None and is_fsdp_enabled():
        raise BadInputError(
            f"grpo.kl is {recipe.grpo.kl:g}, and FSDP is told that one process alone reads the weights: the reference "
            "of the KL penalty would be made of zeros. Set fsdp_cpu_ram_efficient_loading: false in "
            "execution.accelerate_config (FSDP_CPU_RAM_EFFICIENT_LOADING=false), or train adapters (policy.lora)"
        )


def load_policy(recipe: TrainingRecipe, checkpoint: Path | None) -> Policy:
    """The policy to train on from `checkpoint`, or from its start.

    The trainer would restore a checkpoint's weights by name, without insisting: for Qwen2.5-VL, whose names on disk
    differ from those in memory, it restores none of them and only warns (seen with TRL 1.16 and transformers 5.19). So
    the weights are loaded here, and every one of them must be found. The configuration still names the start, because
    that is where TRL loads the reference of the KL penalty from.

    Raises `BadInputError` when it is no image-and-text chat model or a checkpoint lacks weights.
    """
    import torch  # noqa: PLC0415 - seconds to import
    import transformers  # noqa: PLC0415
    from safetensors import SafetensorError  # noqa: PLC0415

    start = policy_source(recipe)
    common: dict[str, Any] = {"trust_remote_code": recipe.execution.trust_remote_code}
    if recipe.execution.model_path is None:
        common["revision"] = recipe.policy.model.revision
    whole = checkpoint is not None and recipe.policy.lora is None
    try:
        processor = transformers.AutoProcessor.from_pretrained(start, padding_side="left", **common)
        model, found = transformers.AutoModelForImageTextToText.from_pretrained(
            checkpoint if whole else start,
            # Updates of 1e-6 vanish in the rounding of bfloat16: what learns is float32, the arithmetic need not be.
            dtype=torch.float32,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # told below, with the names
            **({} if whole else common),
        )
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise BadInputError(f"policy.model: {checkpoint or start} cannot be loaded to be trained: {error}") from error
    if lost := sorted({*found["missing_keys"], *map(str, found["mismatched_keys"])}):
        raise BadInputError(
            f"{checkpoint or start}: {len(lost)} weights are not in it, or of another shape, such as {lost[0]}"
        )
    model.config._name_or_path = start
    if recipe.policy.vision == "stays":
        for name, weight in model.named_parameters():
            weight.requires_grad_(name.startswith(_LANGUAGE))
    lora = recipe.policy.lora
    return Policy(model, processor, None if lora is None else _adapters(lora, recipe.policy.vision))


def _adapters(lora: LoraRecipe, vision: str) -> Any:
    from peft import LoraConfig  # noqa: PLC0415

    language = "|".join(map(re.escape, _LANGUAGE))

    return LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=lora.targets if isinstance(lora.targets, str) else list(lora.targets),
        exclude_modules=rf"(?!{language}).*" if vision == "stays" else None,
        task_type="CAUSAL_LM",
    )
