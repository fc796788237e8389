"""Trains the captioner: complete captions to one prompt, and deliberately thin ones to the prompt of the recipes."""

import random
from typing import Any

import torch

from caprl_core.world.captions import THIN, full_caption, random_caption
from caprl_core.world.drawing import draw_scene
from caprl_core.world.scene import random_scene
from caprl_core.world.training.optimiser import Optimiser
from caprl_core.world.training.pixels import patches
from caprl_core.world.training.reader import Report, loss_of
from caprl_core.world.training.rows import Row, Segment, given, learnt, pack
from caprl_core.world.training.seeing import hidden_states, new_model, picture_row
from caprl_core.world.training.vision import STEPS as VISION_STEPS
from caprl_core.world.training.vision import pretrain_vision
from caprl_core.world.training.words import Words
from caprl_core.world.vocabulary import CAPTION_PROMPT, FULL_PROMPT, build_tokenizer

STEPS = 900
PICTURES = 32
THIN_CAPTIONS = 2
"""Pictures a step; thin captions of each, beside the complete one."""
THIN_WEIGHT = 0.5
"""Of a thin caption's tokens: half of them are dice, which teach nothing."""


def captioner_rows(rng: random.Random, words: Words, pictures: int = PICTURES) -> tuple[list[Row], list[Any]]:
    """Pictures of training scenes with their captions, and the pictures' patches."""
    rows, pixels = [], []
    for _ in range(pictures):
        scene = random_scene(rng)
        thin = [learnt(words.written(random_caption(scene, THIN, rng)), THIN_WEIGHT) for _ in range(THIN_CAPTIONS)]
        segments = [
            Segment(given(words.of(FULL_PROMPT) + words.reply), [learnt(words.written(full_caption(scene)))]),
            Segment(given(words.of(CAPTION_PROMPT) + words.reply), thin),
        ]
        rows.append(picture_row(words, segments))
        pixels.append(patches(draw_scene(scene, rng.getrandbits(32))))
    return rows, pixels


def train_captioner(
    seed: int, steps: int = STEPS, vision_steps: int = VISION_STEPS, report: Report | None = None
) -> Any:
    """A trained Qwen2.5-VL in float32: first its vision tower alone, then everything."""
    torch.manual_seed(seed)
    model = new_model().train()
    pretrain_vision(model, seed, vision_steps, report)
    rng = random.Random(f"captioner/{seed}")
    words = Words(build_tokenizer())
    optimiser = Optimiser(model.named_parameters(), steps)
    for step in range(steps):
        rows, pixels = captioner_rows(rng, words)
        packed = pack(rows, words.padding)
        loss, right = loss_of(model, packed, hidden_states(model, packed, pixels))
        optimiser.step(loss)
        if report is not None:
            report(step, {"loss": loss.item(), "right": right, "tokens": packed.tokens.numel()})
    return model.eval()
