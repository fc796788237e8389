"""Trains the question writer: it says all that it sees, and then writes questions whose answers it has just said."""

import random
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from caprl_core.qa.question import LETTERS
from caprl_core.world.captions import full_caption
from caprl_core.world.drawing import draw_scene
from caprl_core.world.questions import KINDS, POOLS, SceneQuestion, scene_questions
from caprl_core.world.reading import Asks
from caprl_core.world.scene import Scene, random_scene
from caprl_core.world.training.optimiser import Optimiser
from caprl_core.world.training.pixels import patches
from caprl_core.world.training.reader import Report, loss_of
from caprl_core.world.training.rows import Packed, Row, Segment, given, learnt, pack
from caprl_core.world.training.seeing import hidden_states, picture_row
from caprl_core.world.training.words import Words
from caprl_core.world.vocabulary import WRITER_PROMPT, build_tokenizer

STEPS = 1200
PICTURES = 12
QUESTIONS = 3
"""Pictures a step, with one block each; questions of a block."""
SPARE: tuple[Asks, ...] = ("colour", "where", "what")
"""Kinds that are asked instead of `which` where no colour comes once."""
FORM_WEIGHT, DICE_WEIGHT, OPTION_WEIGHT = 0.1, 0.5, 2.0
"""Of tokens that are always the same, of those that are half dice, and of options: most blocks that could not be read
had two equal options or lacked the right one."""


@dataclass(slots=True)
class Reply:
    """A reply's tokens, and at some of its places all tokens that might stand there, with their chances."""

    tokens: list[tuple[int, float]] = field(default_factory=list)
    choices: list[tuple[int, dict[int, float]]] = field(default_factory=list)


def block_questions(scene: Scene, rng: random.Random) -> list[SceneQuestion]:
    """`QUESTIONS` different questions of different kinds, about random things.

    Where no colour comes once, `which` cannot be asked; a kind may then come twice, about two things.
    """
    left = scene_questions(scene, rng)
    rng.shuffle(left)
    chosen = []
    for kind in rng.sample(KINDS, QUESTIONS):
        one = next((one for one in left if one.kind == kind), None) or next(one for one in left if one.kind in SPARE)
        left.remove(one)
        chosen.append(one)
    return chosen


def noted(scene: Scene, asked: SceneQuestion) -> tuple[str, ...]:
    """What the writer notes before it asks: the thing in question, word by word, or the number of shapes."""
    if asked.kind == "count":
        return scene.count, "shapes"
    thing = next(one for one in scene.things if asked.subject in (one.shape, one.colour, one.place))
    return thing.colour, thing.shape, thing.place


def option_chances(asked: SceneQuestion, place: int) -> dict[str, float]:
    """Texts that may stand at `place` behind the options before it, with the chances that random options have."""
    before, places = asked.question.options[:place], len(asked.question.options) - place
    wrong = [text for text in POOLS[asked.kind] if text != asked.value and text not in before]
    right = 0.0 if asked.value in before else 1 / places
    chances = {text: (1 - right) / len(wrong) for text in wrong} | {asked.value: right}
    return {text: chance for text, chance in chances.items() if chance}


def taught_reply(words: Words, scene: Scene, rng: random.Random) -> Reply:
    """The complete caption, and a block of questions, each behind a note of what it is about.

    The parser of blocks passes over caption and notes. To the model they are the evidence: without notes it did look
    the answer up in the caption, but half of the fourth options were wrong where the first three were (540 steps).
    """
    reply = Reply(learnt(words.written(full_caption(scene))[: -len(words.end)]))
    for number, asked in enumerate(block_questions(scene, rng), 1):
        first, *others = noted(scene, asked)
        reply.tokens += [*learnt(words.of("\nNote:"), FORM_WEIGHT), *learnt(words.of(f" {first}"), DICE_WEIGHT)]
        reply.tokens += [one for text in others for one in learnt(words.of(f" {text}"))]
        *stem, subject, mark = words.of(f" {asked.question.stem}")
        reply.tokens += learnt(words.of(f"\n{number}."), FORM_WEIGHT)
        reply.tokens += [*learnt(stem, DICE_WEIGHT), *learnt([subject]), *learnt([mark], FORM_WEIGHT)]
        for place, option in enumerate(asked.question.options):
            reply.tokens += learnt(words.of(f"\n{LETTERS[place]})"), FORM_WEIGHT)
            chances = option_chances(asked, place)
            reply.choices.append((len(reply.tokens), {words.of(f" {text}")[0]: chances[text] for text in chances}))
            reply.tokens += given(words.of(f" {option}"))
        reply.tokens += [*learnt(words.of("\nAnswer:"), FORM_WEIGHT), *learnt(words.of(f" {asked.value}"))]
    reply.tokens += learnt(words.end, FORM_WEIGHT)
    return reply


def writer_batch(rng: random.Random, words: Words, pictures: int = PICTURES) -> tuple[Packed, list[Any]]:
    """Pictures of training scenes with their blocks, and the pictures' patches."""
    rows: list[Row] = []
    pixels: list[Any] = []
    sources: list[tuple[int, int]] = []
    targets: list[int] = []
    weights: list[float] = []
    prompt = given(words.of(WRITER_PROMPT) + words.reply)
    for number in range(pictures):
        scene = random_scene(rng)
        reply = taught_reply(words, scene, rng)
        row = picture_row(words, [Segment([*prompt, *reply.tokens])])
        before = len(row.context) + len(prompt)
        # An option is a throw of dice. Its distribution is known, and teaches more than what was thrown.
        for place, chances in reply.choices:
            sources += [(number, before + place - 1)] * len(chances)
            targets += chances
            weights += [OPTION_WEIGHT * chance for chance in chances.values()]
        rows.append(row)
        pixels.append(patches(draw_scene(scene, rng.getrandbits(32))))
    packed = pack(rows, words.padding)
    return replace(
        packed,
        sources=torch.cat([packed.sources, torch.tensor(sources)]),
        targets=torch.cat([packed.targets, torch.tensor(targets)]),
        weights=torch.cat([packed.weights, torch.tensor(weights)]),
    ), pixels


def train_writer(seed: int, answerer: Any, steps: int = STEPS, report: Report | None = None) -> Any:
    """A trained Qwen2.5-VL in float32, from a trained answerer, which is changed: it sees and knows how to look up.

    The captioner, which knows the caption but no question, had half of the answers wrong where the answerer had a tenth
    (200 steps).
    """
    torch.manual_seed(seed)
    rng = random.Random(f"writer/{seed}")
    words = Words(build_tokenizer())
    model = answerer.float().train()
    optimiser = Optimiser(model.named_parameters(), steps)
    for step in range(steps):
        packed, pixels = writer_batch(rng, words)
        loss, right = loss_of(model, packed, hidden_states(model, packed, pixels))
        optimiser.step(loss)
        if report is not None:
            report(step, {"loss": loss.item(), "right": right, "tokens": packed.tokens.numel()})
    return model.eval()
