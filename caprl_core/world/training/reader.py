"""Trains the text-only reader: captions of any detail, every question on each, abstention where a caption is silent."""

import random
from collections.abc import Callable
from typing import Any

import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from caprl_core.world.captions import FULL, NOTHING, Detail, mixed_caption, random_caption
from caprl_core.world.model_folders import reader_config
from caprl_core.world.questions import scene_questions
from caprl_core.world.reading import stated_answer
from caprl_core.world.scene import Scene, random_scene
from caprl_core.world.training.optimiser import Optimiser
from caprl_core.world.training.rows import Packed, Row, pack
from caprl_core.world.training.words import Words
from caprl_core.world.vocabulary import build_tokenizer

STEPS = 1200
ROWS = 12
WITH_OPTIONS = 5
"""Captions a step, and questions of each that are asked with options; all its questions are asked without."""
FULL_SHARE, EMPTY_SHARE = 0.45, 0.08
FRIENDLY, HOSTILE_SHARE = 0.6, 0.35
"""After this share of the steps, when reading is learnt, this share of captions is false, contradicts itself or is no
sentence. Without them a reader guesses where it should abstain, and a policy finds out."""
CHANCES = (0.2, 0.5, 0.8, 1.0)
"""Of captions that are neither complete nor empty, each kind of detail is mentioned with one of these chances."""

Report = Callable[[int, dict[str, float]], None]


def reader_rows(rng: random.Random, words: Words, rows: int = ROWS, hostile: float = 0.0) -> list[Row]:
    """Captions of training scenes with questions on them; a share of `hostile` ones among them."""
    made = []
    for _ in range(rows):
        scene = random_scene(rng)
        caption = _hostile(scene, rng) if rng.random() < hostile else random_caption(scene, _detail(rng), rng)
        asked = scene_questions(scene, rng)
        values = [stated_answer(caption, one.question.stem) for one in asked]
        pairs = list(zip(asked, values, strict=True))
        segments = [words.open_question(one, value) for one, value in pairs]
        segments += [words.question(one, value, rng) for one, value in rng.sample(pairs, min(WITH_OPTIONS, len(pairs)))]
        made.append(Row(words.caption_context(caption), segments))
    return made


def _hostile(scene: Scene, rng: random.Random) -> str:
    """A caption of another scene, one that contradicts itself, or words without grammar."""
    other = random_scene(rng)
    dice = rng.random()
    if dice < 0.4:
        return random_caption(other, _detail(rng), rng)
    mixed = mixed_caption((scene, other), Detail(0.7, 0.9, 0.8, 0.5), rng)
    if dice < 0.8:
        return mixed
    pieces = mixed.split()
    rng.shuffle(pieces)
    return " ".join(pieces)


def _detail(rng: random.Random) -> Detail:
    dice = rng.random()
    if dice < FULL_SHARE:
        return FULL
    if dice < FULL_SHARE + EMPTY_SHARE:
        return NOTHING
    return Detail(*(rng.choice(CHANCES) for _ in range(4)))


def hidden_states(model: Any, packed: Packed) -> Any:
    """The last layer's states of a Qwen2, (rows, length, hidden)."""
    return model.model(
        input_ids=packed.tokens, attention_mask=packed.mask, position_ids=packed.positions[0], use_cache=False
    ).last_hidden_state


def loss_of(model: Any, packed: Packed, states: Any) -> tuple[Any, float]:
    """The weighted mean cross entropy of what is learnt, and the share of it that is right."""
    logits = model.lm_head(states[packed.sources[:, 0], packed.sources[:, 1]]).float()
    losses = torch.nn.functional.cross_entropy(logits, packed.targets, reduction="none")
    right = (logits.detach().argmax(-1) == packed.targets).float().mean().item()
    return (losses * packed.weights).sum() / packed.weights.sum(), right


def train_reader(seed: int, steps: int = STEPS, report: Report | None = None, start: Any = None) -> Any:
    """A trained Qwen2 in float32. One thread: the same seed, steps and machine give the same weights."""
    torch.manual_seed(seed)
    rng = random.Random(f"reader/{seed}")
    words = Words(build_tokenizer())
    model = start or Qwen2ForCausalLM._from_config(Qwen2Config(**reader_config()), attn_implementation="sdpa")
    model.float().train()
    optimiser = Optimiser(model.named_parameters(), steps)
    for step in range(steps):
        hostile = HOSTILE_SHARE if step >= FRIENDLY * steps else 0.0
        packed = pack(reader_rows(rng, words, hostile=hostile), words.padding)
        loss, right = loss_of(model, packed, hidden_states(model, packed))
        optimiser.step(loss)
        if report is not None:
            report(step, {"loss": loss.item(), "right": right, "tokens": packed.tokens.numel()})
    return model.eval()
