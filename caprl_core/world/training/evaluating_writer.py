"""Held-out figures of the question writer: its blocks, read as the curation reads them, held against the scenes."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch

from caprl_core.qa.blocks.block import ParsedBlock, parse_block
from caprl_core.qa.blocks.refusals import checked
from caprl_core.qa.question import LETTERS, Question
from caprl_core.recipe.qa import ExtractRecipe
from caprl_core.world.captions import full_caption
from caprl_core.world.drawing import draw_scene
from caprl_core.world.questions import KINDS, OPTIONS
from caprl_core.world.reading import asked_about, stated_answer
from caprl_core.world.scene import Scene, scenes
from caprl_core.world.training.evaluating import Figures, replies
from caprl_core.world.training.pixels import patches
from caprl_core.world.training.writer import QUESTIONS
from caprl_core.world.vocabulary import WRITER_PROMPT

BLOCK_TOKENS = 144
"""The longest block of 1,000 had 128 tokens with its end."""
AGAIN = 100
"""Scenes that are written about twice, to see that blocks differ."""


def true_gold(question: Question, scene: Scene) -> bool:
    """Whether the question is one of the world's, has one answer in this scene, and its gold is that answer."""
    return stated_answer(full_caption(scene), question.stem) == question.gold_text


def read_block(text: str) -> ParsedBlock:
    """A reply as the curation reads it by default, after its checks of single questions."""
    return checked(parse_block(text, cut=False), ExtractRecipe())


def block_figures(blocks: Sequence[str], known: Sequence[Scene]) -> Figures:
    """What blocks are worth, each on the scene beside it. Shares are 0 to 1.

    whole:      of blocks that gave all their questions, and no refusal
    questions:  of a block, on average, that were taken over
    true:       of these, with a true gold
    distinct:   of these, with four different options
    caption:    of blocks that begin with the complete caption, without an error
    stems:      of blocks in which no stem comes twice
    ask_*:      of questions, of this kind; `gold_*`: with the gold under this letter
    """
    whole = true = distinct = captioned = stems = 0
    kinds: Counter[str] = Counter()
    letters: Counter[str] = Counter()
    total = 0
    for text, scene in zip(blocks, known, strict=True):
        found = read_block(text)
        questions = [question for _, question in found.questions]
        whole += len(questions) == QUESTIONS and not found.refused
        captioned += text.partition("\n")[0] == full_caption(scene)
        stems += len({question.stem for question in questions}) == len(questions)
        total += len(questions)
        for question in questions:
            true += true_gold(question, scene)
            distinct += len(set(question.options)) == OPTIONS == len(question.options)
            asked = asked_about(question.stem)
            kinds["other" if asked is None else asked[0]] += 1
            letters[question.answer] += 1
    of_questions = max(1, total)
    figures = {
        "whole": whole / len(blocks),
        "questions": total / len(blocks),
        "true": true / of_questions,
        "distinct": distinct / of_questions,
        "caption": captioned / len(blocks),
        "stems": stems / len(blocks),
    }
    figures |= {f"ask_{kind}": kinds[kind] / of_questions for kind in KINDS}
    figures |= {f"gold_{letter}": letters[letter] / of_questions for letter in LETTERS[:OPTIONS]}
    return {name: round(value, 4) for name, value in figures.items()}


def evaluate_writer(model: Any, seed: int, count: int) -> dict[str, Figures]:
    """Blocks on held-out pictures, at temperature 1 and greedy; `differ` is of second blocks that are others."""
    known = list(scenes("held_out", count, seed))
    pictures = [patches(draw_scene(scene, number)) for number, scene in enumerate(known)]
    found = {}
    for name, sample in (("sampled", True), ("greedy", False)):
        torch.manual_seed(seed)
        blocks = replies(model, [WRITER_PROMPT] * count, pictures, BLOCK_TOKENS, sample)
        found[name] = block_figures(blocks, known)
        if sample:
            twice = min(AGAIN, count)
            others = replies(model, [WRITER_PROMPT] * twice, pictures[:twice], BLOCK_TOKENS, sample)
            differ = sum(one != other for one, other in zip(blocks, others, strict=False)) / twice
            found[name]["differ"] = round(differ, 4)
    return found
