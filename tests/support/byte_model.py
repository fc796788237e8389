"""A model folder for trainers' loaders: Qwen2.5-VL's processor, a tokenizer of bytes that loses nothing, no weights."""

import json
import shutil
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from caprl_core.world.model_folders import WEIGHTS

CONTROL = (
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>",
    "<|video_pad|>", "<image>", "<video>", "</s>",
)  # fmt: skip
"""Tokens that the tokenizer takes out of any text: a caption that still held one would come back as that token."""


def byte_model(folder: Path) -> Path:
    """Write the folder."""
    shutil.copytree(WEIGHTS / "captioner", folder, ignore=shutil.ignore_patterns("*.safetensors", "figures.json"))
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={letter: number for number, letter in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in CONTROL])
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = json.loads((folder / "tokenizer_config.json").read_text()) | {"model_max_length": 10**9}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder
