"""Folders of the tiny models: configuration, tokenizer, processor and weights as the hub's Qwen folders have them."""

import json
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from caprl_core.world.drawing import SIDE
from caprl_core.world.vocabulary import (
    END,
    IMAGE,
    PADDING,
    VIDEO,
    VISION_END,
    VISION_START,
    build_tokenizer,
    write_tokenizer,
)

HIDDEN, INTERMEDIATE, LAYERS, HEADS = 128, 384, 4, 4
VISION_HIDDEN, VISION_INTERMEDIATE, VISION_LAYERS = 96, 192, 2
PATCH, MERGE = 14, 2
POSITIONS = 1024
ROPE_THETA = 10_000.0
"""Sizes from design section 8. The reader and the language models of the others have the same shapes, so that weights
of one can start another: with equal positions in all three dimensions, mrope is the reader's rope."""
IMAGE_MEAN = (0.48145466, 0.4578275, 0.40821073)
IMAGE_STD = (0.26862954, 0.26130258, 0.27577711)
"""Qwen2.5-VL's (CLIP's) normalisation."""

WEIGHTS = Path(__file__).parent / "weights"
"""The committed models, a folder each."""
MODELS = ("captioner", "reader", "answerer", "writer")
"""In the order in which they are trained from nothing: the answerer begins as those before it, the writer as it."""
FIGURES = "figures.json"
"""In a model's folder: how it was trained, and its held-out figures."""


def committed_model(name: str) -> Path:
    """Folder of a committed model. Raises `FileNotFoundError` if there is none of this name."""
    folder = WEIGHTS / name
    if name not in MODELS or not (folder / "model.safetensors").is_file():
        raise FileNotFoundError(f"no model {name!r} at {folder}")
    return folder


def committed_figures(name: str) -> dict[str, Any]:
    """How a committed model was trained and what it reached. Raises `FileNotFoundError` if there is none."""
    found: dict[str, Any] = json.loads((committed_model(name) / FIGURES).read_text(encoding="utf-8"))
    return found


def reader_config() -> dict[str, Any]:
    """Configuration of the text-only reader, a Qwen2."""
    return {
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        "dtype": "float16",
        **_language_config(build_tokenizer()),
        "rope_parameters": {"rope_type": "default", "rope_theta": ROPE_THETA},
    }


def vision_language_config() -> dict[str, Any]:
    """Configuration of the models that see, a Qwen2.5-VL."""
    tokenizer = build_tokenizer()
    return {
        "architectures": ["Qwen2_5_VLForConditionalGeneration"],
        "model_type": "qwen2_5_vl",
        "dtype": "float16",
        "tie_word_embeddings": True,
        "image_token_id": tokenizer.token_to_id(IMAGE),
        "video_token_id": tokenizer.token_to_id(VIDEO),
        "vision_start_token_id": tokenizer.token_to_id(VISION_START),
        "vision_end_token_id": tokenizer.token_to_id(VISION_END),
        "eos_token_id": tokenizer.token_to_id(END),
        "pad_token_id": tokenizer.token_to_id(PADDING),
        "text_config": {
            "model_type": "qwen2_5_vl_text",
            **_language_config(tokenizer),
            # Time, height and width share the 16 rotary frequencies of a head in Qwen2.5-VL's proportion 2 : 3 : 3.
            "rope_parameters": {"rope_type": "default", "rope_theta": ROPE_THETA, "mrope_section": [4, 6, 6]},
        },
        "vision_config": {
            "model_type": "qwen2_5_vl_vision",
            "depth": VISION_LAYERS,
            "hidden_size": VISION_HIDDEN,
            "intermediate_size": VISION_INTERMEDIATE,
            "num_heads": HEADS,
            "out_hidden_size": HIDDEN,
            "hidden_act": "silu",
            "in_channels": 3,
            "patch_size": PATCH,
            "temporal_patch_size": 2,
            "spatial_merge_size": MERGE,
            "tokens_per_second": 2,
            "window_size": 112,
            "fullatt_block_indexes": list(range(VISION_LAYERS)),
        },
    }


def _language_config(tokenizer: Tokenizer) -> dict[str, Any]:
    return {
        # Kernels like multiples of 64; the rows past the last token are never trained nor said.
        "vocab_size": -(-tokenizer.get_vocab_size() // 64) * 64,
        "hidden_size": HIDDEN,
        "intermediate_size": INTERMEDIATE,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": HEADS,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-6,
        "max_position_embeddings": POSITIONS,
        "tie_word_embeddings": True,
        "use_sliding_window": False,
        "bos_token_id": None,
        "eos_token_id": tokenizer.token_to_id(END),
        "pad_token_id": tokenizer.token_to_id(PADDING),
    }


def image_processor_config() -> dict[str, Any]:
    """Settings of Qwen2.5-VL's image processor; pictures of the world pass at their own size."""
    return {
        "image_processor_type": "Qwen2VLImageProcessor",
        "processor_class": "Qwen2_5_VLProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "do_rescale": True,
        "do_normalize": True,
        "resample": 3,  # bicubic
        "rescale_factor": 1 / 255,
        "image_mean": list(IMAGE_MEAN),
        "image_std": list(IMAGE_STD),
        "min_pixels": (PATCH * MERGE) ** 2,
        "max_pixels": SIDE**2,
        "patch_size": PATCH,
        "temporal_patch_size": 2,
        "merge_size": MERGE,
    }


def write_folder(folder: Path, images: bool) -> None:
    """Write everything but the weights: of a vision-language model with `images`, else of the reader."""
    folder.mkdir(parents=True, exist_ok=True)
    config = vision_language_config() if images else reader_config()
    _write_json(folder / "config.json", config)
    ends = config["eos_token_id"]
    _write_json(
        folder / "generation_config.json",
        {"do_sample": False, "eos_token_id": ends, "pad_token_id": config["pad_token_id"]},
    )
    write_tokenizer(folder, processor=images)
    if images:
        settings = image_processor_config()
        _write_json(folder / "preprocessor_config.json", settings)
        del settings["image_processor_type"]
        settings["video_processor_type"] = "Qwen2VLVideoProcessor"
        _write_json(folder / "video_preprocessor_config.json", settings)


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
