"""Policies of each architecture the factory trains, with random weights, in the folders the hub's models come in.

All of them speak the vocabulary of the embedded world, so that its reader can read what they say, which is noise.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from transformers import AutoConfig, AutoModelForImageTextToText

from caprl_core.world.vocabulary import (
    CHAT_TEMPLATE,
    END,
    IMAGE,
    PADDING,
    VIDEO,
    VISION_END,
    VISION_START,
    build_tokenizer,
)

HIDDEN, INTERMEDIATE, LAYERS, HEADS, HEAD_DIM = 64, 128, 2, 2, 32
INTERN = {
    "start_image_token": "<img>",
    "end_image_token": "</img>",
    "context_image_token": "<IMG_CONTEXT>",
    "video_token": "<video>",
}
"""InternVL's own control tokens, by the names its processor asks for them."""
INTERN_TEMPLATE = CHAT_TEMPLATE.replace("<|vision_start|><|image_pad|><|vision_end|>", "<IMG_CONTEXT>\\n")
TILE = 56
"""Pixels of a side of InternVL's tiles here; 448 in the real ones."""


def build_qwen25_vl(folder: Path) -> Path:
    """A Qwen2.5-VL."""
    tokenizer = build_tokenizer()
    config = _config("qwen2_5_vl", "Qwen2_5_VLForConditionalGeneration", tokenizer) | _qwen_tokens(tokenizer)
    config["text_config"] = _text("qwen2_5_vl_text", tokenizer) | {
        "use_sliding_window": False,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [4, 6, 6]},
    }
    config["vision_config"] = {
        "model_type": "qwen2_5_vl_vision",
        "depth": LAYERS,
        "hidden_size": HIDDEN,
        "intermediate_size": INTERMEDIATE,
        "num_heads": HEADS,
        "out_hidden_size": HIDDEN,
        "patch_size": 14,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
        "window_size": 112,
        "fullatt_block_indexes": [LAYERS - 1],
    }
    _write(folder, config, tokenizer, CHAT_TEMPLATE, "Qwen2_5_VLProcessor", {})
    _write_qwen_images(folder, "Qwen2_5_VLProcessor", "Qwen2VLVideoProcessor", patch=14)
    return _with_weights(folder)


def build_qwen3_vl(folder: Path) -> Path:
    """A Qwen3-VL: patches of 16 pixels, interleaved positions, image features added to the first layers."""
    tokenizer = build_tokenizer()
    config = _config("qwen3_vl", "Qwen3VLForConditionalGeneration", tokenizer) | _qwen_tokens(tokenizer)
    config["text_config"] = _text("qwen3_vl_text", tokenizer) | {
        "head_dim": HEAD_DIM,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 5e6,
            "mrope_section": [6, 5, 5],
            "mrope_interleaved": True,
        },
    }
    config["vision_config"] = {
        "model_type": "qwen3_vl",
        "depth": LAYERS,
        "hidden_size": HIDDEN,
        "intermediate_size": INTERMEDIATE,
        "num_heads": HEADS,
        "out_hidden_size": HIDDEN,
        "patch_size": 16,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
        "num_position_embeddings": 256,
        "deepstack_visual_indexes": [0],
    }
    _write(folder, config, tokenizer, CHAT_TEMPLATE, "Qwen3VLProcessor", {})
    _write_qwen_images(folder, "Qwen3VLProcessor", "Qwen3VLVideoProcessor", patch=16)
    return _with_weights(folder)


def build_internvl(folder: Path) -> Path:
    """An InternVL3.5 in the form of transformers (`-HF` on the hub): a picture is one tile, or some and the whole."""
    tokenizer = build_tokenizer()
    tokenizer.add_special_tokens(list(INTERN.values()))
    config = _config("internvl", "InternVLForConditionalGeneration", tokenizer) | {
        "image_token_id": tokenizer.token_to_id(INTERN["context_image_token"]),
        "image_seq_length": 4,
        "downsample_ratio": 0.5,
        "projector_hidden_act": "gelu",
        "vision_feature_layer": -1,
        "vision_feature_select_strategy": "default",
    }
    config["text_config"] = _text("qwen3", tokenizer) | {
        "head_dim": HEAD_DIM,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6},
    }
    config["vision_config"] = {
        "model_type": "internvl_vision",
        "hidden_size": HIDDEN,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "intermediate_size": INTERMEDIATE,
        "image_size": [TILE, TILE],
        "patch_size": [14, 14],
        "attention_bias": True,
        "use_absolute_position_embeddings": True,
    }
    _write(folder, config, tokenizer, INTERN_TEMPLATE, "InternVLProcessor", {"extra_special_tokens": INTERN})
    settings = _images("InternVLProcessor", mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225]) | {
        "crop_to_patches": False,  # as on the hub; the processor asks for tiles all the same
        "min_patches": 1,
        "max_patches": 4,
        "size": {"height": TILE, "width": TILE},
    }
    _write_json(folder / "preprocessor_config.json", settings | {"image_processor_type": "GotOcr2ImageProcessorFast"})
    _write_json(folder / "processor_config.json", {"image_seq_length": 4, "processor_class": "InternVLProcessor"})
    video = {name: value for name, value in settings.items() if "patches" not in name}
    _write_json(folder / "video_preprocessor_config.json", video | {"video_processor_type": "InternVLVideoProcessor"})
    return _with_weights(folder)


POLICIES: dict[str, Callable[[Path], Path]] = {
    "qwen2.5-vl": build_qwen25_vl,
    "qwen3-vl": build_qwen3_vl,
    "internvl3.5": build_internvl,
}


def _config(kind: str, architecture: str, tokenizer: Tokenizer) -> dict[str, Any]:
    return {
        "architectures": [architecture],
        "model_type": kind,
        "dtype": "float32",
        "tie_word_embeddings": False,
        "eos_token_id": tokenizer.token_to_id(END),
        "pad_token_id": tokenizer.token_to_id(PADDING),
    }


def _qwen_tokens(tokenizer: Tokenizer) -> dict[str, Any]:
    names = {"image": IMAGE, "video": VIDEO, "vision_start": VISION_START, "vision_end": VISION_END}
    return {f"{name}_token_id": tokenizer.token_to_id(token) for name, token in names.items()}


def _text(kind: str, tokenizer: Tokenizer) -> dict[str, Any]:
    return {
        "model_type": kind,
        "vocab_size": -(-tokenizer.get_vocab_size() // 64) * 64,
        "hidden_size": HIDDEN,
        "intermediate_size": INTERMEDIATE,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": 1,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-6,
        "max_position_embeddings": 1024,
        "tie_word_embeddings": False,
        "bos_token_id": None,
        "eos_token_id": tokenizer.token_to_id(END),
        "pad_token_id": tokenizer.token_to_id(PADDING),
    }


def _write(
    folder: Path, config: dict[str, Any], tokenizer: Tokenizer, template: str, processor: str, more: dict[str, Any]
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    _write_json(folder / "config.json", config)
    ends = {"eos_token_id": config["eos_token_id"], "pad_token_id": config["pad_token_id"]}
    _write_json(folder / "generation_config.json", {"do_sample": False} | ends)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "processor_class": processor,
        "eos_token": END,
        "pad_token": PADDING,
        "model_max_length": 1024,
        "clean_up_tokenization_spaces": False,
    }
    _write_json(folder / "tokenizer_config.json", settings | more)


def _images(processor: str, mean: list[float], std: list[float]) -> dict[str, Any]:
    return {
        "processor_class": processor,
        "do_convert_rgb": True,
        "do_resize": True,
        "do_rescale": True,
        "do_normalize": True,
        "resample": 3,
        "rescale_factor": 1 / 255,
        "image_mean": mean,
        "image_std": std,
    }


def _write_qwen_images(folder: Path, processor: str, video: str, patch: int) -> None:
    mean, std = ([0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711])
    if patch == 16:
        mean = std = [0.5, 0.5, 0.5]
    unit = (2 * patch) ** 2
    settings = _images(processor, mean, std) | {
        "min_pixels": unit,
        "max_pixels": 64 * unit,
        "patch_size": patch,
        "temporal_patch_size": 2,
        "merge_size": 2,
    }
    _write_json(folder / "preprocessor_config.json", settings | {"image_processor_type": "Qwen2VLImageProcessor"})
    _write_json(folder / "video_preprocessor_config.json", settings | {"video_processor_type": video})


def _with_weights(folder: Path) -> Path:
    """Random weights. Each layer keeps the size of what it is given, so that the picture decides what is said; words
    are louder than bytes and the end louder still, so that captions are words and of many lengths."""
    model = AutoModelForImageTextToText.from_config(AutoConfig.from_pretrained(folder))
    torch.manual_seed(0)
    for name, weights in model.named_parameters():
        if weights.ndim >= 2:
            torch.nn.init.normal_(weights, std=weights[0].numel() ** -0.5)
        elif name.endswith("bias"):
            torch.nn.init.normal_(weights, std=0.02)
        else:
            torch.nn.init.ones_(weights)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    words = [number for token, number in tokenizer.get_vocab(with_added_tokens=False).items() if len(token) > 2]
    with torch.no_grad():
        model.get_output_embeddings().weight[words] *= 3
        model.get_output_embeddings().weight[tokenizer.token_to_id(END)] *= 8
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    model.save_pretrained(folder)
    for name, data in files.items():
        (folder / name).write_bytes(data)  # as the hub has them, not as this version of transformers writes them
    return folder


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
