"""Trains the answerer: the reader's language model behind the captioner's eyes, taught as the reader was."""

import random
from typing import Any

import torch

from caprl_core.world.drawing import draw_scene
from caprl_core.world.questions import SceneQuestion, leaky_questions, scene_questions
from caprl_core.world.scene import random_scene
from caprl_core.world.training.optimiser import Optimiser
from caprl_core.world.training.pixels import patches
from caprl_core.world.training.reader import Report, loss_of
from caprl_core.world.training.rows import Row, pack
from caprl_core.world.training.seeing import hidden_states, new_model, picture_row
from caprl_core.world.training.words import Words
from caprl_core.world.vocabulary import build_tokenizer

STEPS = 700
ROWS = 12
WITH_OPTIONS = 5
BLIND_SHARE = 0.12
"""Of rows without a picture: their questions are to be answered by abstention, the leaky ones apart."""
LEAKY_SHARE = 0.06
"""Chance that a row also asks a question that gives its answer away."""


def answerer_rows(rng: random.Random, words: Words, rows: int = ROWS) -> tuple[list[Row], list[Any]]:
    """Pictures of training scenes, or none, with questions on them; and the pictures' patches."""
    made, pixels = [], []
    for _ in range(rows):
        scene = random_scene(rng)
        blind = rng.random() < BLIND_SHARE
        asked = scene_questions(scene, rng)
        pairs: list[tuple[SceneQuestion, str | None]] = [(one, None if blind else one.value) for one in asked]
        chosen = rng.sample(pairs, min(WITH_OPTIONS, len(pairs)))
        if rng.random() < LEAKY_SHARE:
            leaky = rng.choice(leaky_questions(scene, rng))
            chosen.append((leaky, leaky.value))
        segments = [words.question(one, value, rng) for one, value in chosen]
        if blind:
            made.append(Row(words.user, segments))
            continue
        segments += [words.open_question(one, value) for one, value in pairs]
        made.append(picture_row(words, segments))
        pixels.append(patches(draw_scene(scene, rng.getrandbits(32))))
    return made, pixels


def assembled(reader: Any, captioner: Any) -> Any:
    """An answerer to be trained: vision tower of the captioner, everything else of the reader."""
    model = new_model()
    model.model.visual.load_state_dict(captioner.model.visual.state_dict())
    model.model.language_model.load_state_dict(reader.model.state_dict())
    model.tie_weights()
    return model


def train_answerer(seed: int, reader: Any, captioner: Any, steps: int = STEPS, report: Report | None = None) -> Any:
    """A trained Qwen2.5-VL in float32, from a trained reader and a trained captioner."""
    torch.manual_seed(seed)
    rng = random.Random(f"answerer/{seed}")
    words = Words(build_tokenizer())
    model = assembled(reader, captioner).train()
    optimiser = Optimiser(model.named_parameters(), steps)
    for step in range(steps):
        rows, pixels = answerer_rows(rng, words)
        packed = pack(rows, words.padding)
        loss, right = loss_of(model, packed, hidden_states(model, packed, pixels))
        optimiser.step(loss)
        if report is not None:
            report(step, {"loss": loss.item(), "right": right, "tokens": packed.tokens.numel()})
    return model.eval()
