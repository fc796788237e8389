"""Writes and reads model folders: weights in half precision, all else as `model_folders` has it."""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import Qwen2_5_VLForConditionalGeneration, Qwen2ForCausalLM

from caprl_core.world.model_folders import write_folder


def save_model(model: Any, folder: Path) -> Path:
    """Write a model into `folder`, under the names of the hub's Qwen folders; the same weights give the same bytes."""
    images = model.config.model_type == "qwen2_5_vl"
    write_folder(folder, images)
    tensors = {}
    for name, tensor in model.state_dict().items():
        if name != "lm_head.weight":  # tied to the embeddings
            tensors[_hub_name(name)] = tensor.detach().to(torch.float16).contiguous().clone()
    path = folder / "model.safetensors"
    save_file(tensors, path, metadata={"format": "pt"})
    path.chmod(0o644)  # safetensors writes it for its owner alone
    return folder


def load_model(folder: Path) -> Any:
    """The model of a folder, in float32. Raises `OSError` if there is none."""
    kind = Qwen2_5_VLForConditionalGeneration if (folder / "preprocessor_config.json").is_file() else Qwen2ForCausalLM
    return kind.from_pretrained(folder, dtype=torch.float32, attn_implementation="sdpa")


def _hub_name(name: str) -> str:
    """The published name of a tensor: `visual.…` and `model.…` beside each other."""
    name = name.replace("model.visual.", "visual.", 1)
    return name.replace("model.language_model.", "model.", 1)
