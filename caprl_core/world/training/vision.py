"""Pre-trains the vision tower: each visual token tells what is in its cell. Without this, shapes stayed at chance."""

import random
from typing import Any

import torch

from caprl_core.world.drawing import draw_cells
from caprl_core.world.model_folders import HIDDEN
from caprl_core.world.scene import COLOURS, PLACES, SHAPES
from caprl_core.world.training.optimiser import Optimiser
from caprl_core.world.training.pixels import GRID, TOKENS, patches
from caprl_core.world.training.reader import Report

STEPS = 400
PICTURES, FILLED = 32, 5
"""Pictures a step, and filled cells of each. Any things in any cells: no scene, so none that is held out."""
NOISE = 1.0
"""Added to the tokens, brought to unit root mean square, before the heads read them: what they tell must be told loudly
enough for a language model at its start (design section 8)."""
SIZE_WEIGHT = 1e-3  # of keeping the tokens themselves near unit root mean square, as embeddings are


def visual_tokens(model: Any, pixels: Any, pictures: int) -> Any:
    """float (pictures, 9, hidden) of `pixels`, the stacked patches of that many pictures."""
    states = model.model.visual(pixels, grid_thw=torch.tensor([GRID] * pictures))
    return states.pooler_output.reshape(pictures, TOKENS, HIDDEN)


def pretrain_vision(model: Any, seed: int, steps: int, report: Report | None = None) -> None:
    """Train `model.model.visual` in place, with heads for shape, colour and place that are thrown away."""
    torch.manual_seed(seed)
    rng = random.Random(f"vision/{seed}")
    heads = torch.nn.ModuleDict(
        {
            "shape": torch.nn.Linear(HIDDEN, len(SHAPES) + 1),
            "colour": torch.nn.Linear(HIDDEN, len(COLOURS) + 1),
            "place": torch.nn.Linear(HIDDEN, len(PLACES)),
        }
    )
    tower = model.model.visual
    named = [*tower.named_parameters(), *((f"embed.{name}", value) for name, value in heads.named_parameters())]
    optimiser = Optimiser(named, steps)
    cross_entropy = torch.nn.functional.cross_entropy
    for step in range(steps):
        pixels, shapes, colours = _batch(rng)
        tokens = visual_tokens(model, pixels, PICTURES)
        size = tokens.pow(2).mean(-1, keepdim=True)
        noisy = tokens * torch.rsqrt(size + 1e-6)
        noisy = noisy + NOISE * torch.randn_like(noisy)
        told = {name: head(noisy).flatten(0, 1) for name, head in heads.items()}
        places = torch.arange(len(PLACES)).repeat(PICTURES)
        loss = (
            cross_entropy(told["shape"], shapes)
            + 0.5 * cross_entropy(told["colour"], colours)
            + 0.5 * cross_entropy(told["place"], places)
            + SIZE_WEIGHT * (size - 1).pow(2).mean()
        )
        optimiser.step(loss)
        if report is not None:
            filled = shapes != len(SHAPES)
            report(
                step,
                {
                    "loss": loss.item(),
                    "shape": (told["shape"].argmax(-1) == shapes)[filled].float().mean().item(),
                    "colour": (told["colour"].argmax(-1) == colours)[filled].float().mean().item(),
                },
            )


def _batch(rng: random.Random) -> tuple[Any, Any, Any]:
    pixels = []
    shapes = torch.full((PICTURES, len(PLACES)), len(SHAPES))
    colours = torch.full((PICTURES, len(PLACES)), len(COLOURS))
    for number in range(PICTURES):
        cells = {place: (rng.choice(SHAPES), rng.choice(COLOURS)) for place in rng.sample(range(len(PLACES)), FILLED)}
        pixels.append(patches(draw_cells(cells, rng)))
        for place, (shape, colour) in cells.items():
            shapes[number, place], colours[number, place] = SHAPES.index(shape), COLOURS.index(colour)
    return torch.cat(pixels), shapes.flatten(), colours.flatten()
