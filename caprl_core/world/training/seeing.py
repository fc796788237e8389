"""Rows that begin with a picture, and the states of a Qwen2.5-VL on them."""

from collections.abc import Sequence
from typing import Any

import torch
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from caprl_core.world.drawing import CELL, SIDE
from caprl_core.world.model_folders import vision_language_config
from caprl_core.world.training.pixels import TOKENS
from caprl_core.world.training.rows import Packed, Row, Segment
from caprl_core.world.training.vision import visual_tokens
from caprl_core.world.training.words import Words
from caprl_core.world.vocabulary import IMAGE

COLUMNS = SIDE // CELL


def new_model() -> Any:
    """An untrained Qwen2.5-VL in float32."""
    config = Qwen2_5_VLConfig(**vision_language_config())
    return Qwen2_5_VLForConditionalGeneration._from_config(config, attn_implementation="sdpa").float()


def picture_row(words: Words, segments: Sequence[Segment]) -> Row:
    """A row whose context is one picture, with Qwen2.5-VL's positions: a grid of 3 x 3, then text behind its corner."""
    before = words.user + words.vision_start
    context = before + words.of(IMAGE) * TOKENS + words.vision_end
    start = len(before)
    positions = [(place,) * 3 for place in range(start)]
    positions += [(start, start + cell // COLUMNS, start + cell % COLUMNS) for cell in range(TOKENS)]
    positions.append((start + COLUMNS,) * 3)
    return Row(context, segments, positions)


def hidden_states(model: Any, packed: Packed, pixels: Sequence[Any]) -> Any:
    """The last layer's states, (rows, length, hidden); `pixels` are the patches of the rows that have a picture."""
    embedded = model.get_input_embeddings()(packed.tokens)
    if pixels:
        seen = packed.tokens == model.config.image_token_id
        tokens = visual_tokens(model, torch.cat(list(pixels)), len(pixels))
        embedded = embedded.masked_scatter(seen[..., None], tokens)
    return model.model.language_model(
        inputs_embeds=embedded, attention_mask=packed.mask, position_ids=packed.positions, use_cache=False
    ).last_hidden_state
