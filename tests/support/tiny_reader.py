"""A text-only chat model of Qwen2's architecture with random weights, and a template that takes plain texts alone."""

import json
import shutil
from pathlib import Path

import torch
from transformers import AutoTokenizer, Qwen2Config, Qwen2ForCausalLM

from caprl_core.world.tiny_captioner import build_tiny_captioner

TEMPLATE = """\
{%- for message in messages -%}
{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}
"""
"""Adding a list of parts to a text is an error in it, as in the templates of many text-only models."""


def build_tiny_reader(folder: Path) -> Path:
    """Write the model into `folder`; about a second, 0.3 MB. The tokenizer is the tiny captioner's."""
    captioner = build_tiny_captioner(folder / "captioner")
    reader = folder / "reader"
    reader.mkdir()
    shutil.copy(captioner / "tokenizer.json", reader)
    settings = json.loads((captioner / "tokenizer_config.json").read_text())
    settings.pop("processor_class")
    (reader / "tokenizer_config.json").write_text(json.dumps(settings))
    (reader / "chat_template.jinja").write_text(TEMPLATE)
    tokenizer = AutoTokenizer.from_pretrained(reader)
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=-(-len(tokenizer) // 64) * 64,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=1024,
        initializer_range=0.3,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    Qwen2ForCausalLM(config).save_pretrained(reader)
    return reader
