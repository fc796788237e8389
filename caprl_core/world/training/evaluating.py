"""Held-out figures of the tiny models: greedy replies to the real prompts, read as the reward and the curation do."""

import random
from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from transformers import GenerationConfig

from caprl_core.qa.letters import read_letter
from caprl_core.qa.question import LETTERS
from caprl_core.world.captions import (
    FULL,
    NOTHING,
    THIN,
    Detail,
    grammatical,
    random_caption,
    recall,
    things_recall,
    true_facts,
)
from caprl_core.world.drawing import draw_scene
from caprl_core.world.questions import CANNOT, KINDS, SceneQuestion, scene_questions
from caprl_core.world.reading import strict_answer
from caprl_core.world.scene import Scene, scenes
from caprl_core.world.training.pixels import GRID, TOKENS, patches
from caprl_core.world.training.words import Words, extra_presented
from caprl_core.world.vocabulary import (
    CAPTION_PROMPT,
    FULL_PROMPT,
    IMAGE,
    READER_PROMPT,
    VISION_END,
    VISION_START,
    build_tokenizer,
)

BATCH = 128
REPLY_TOKENS = 8
CAPTION_TOKENS = 48
"""The longest complete caption has 28 tokens and its end."""

Figures = dict[str, float]


def replies(
    model: Any, prompts: Sequence[str], pictures: Sequence[Any] | None, tokens: int, sample: bool = False
) -> list[str]:
    """Replies to chat turns of one user text each, the picture (its patches) before it; greedy, or at temperature 1."""
    words = Words(build_tokenizer())
    seen = "" if pictures is None else f"{VISION_START}{IMAGE * TOKENS}{VISION_END}"
    found: list[str] = []
    for first in range(0, len(prompts), BATCH):
        turns = [
            words.written(f"<|im_start|>user\n{seen}{prompt}")[:-1] + words.reply
            for prompt in prompts[first : first + BATCH]
        ]
        width = max(map(len, turns))
        ids = torch.tensor([[words.padding] * (width - len(turn)) + turn for turn in turns])
        inputs: dict[str, Any] = {"input_ids": ids, "attention_mask": (ids != words.padding).long()}
        if pictures is not None:
            inputs["mm_token_type_ids"] = (ids == words.of(IMAGE)[0]).long()
            inputs["pixel_values"] = torch.cat(list(pictures[first : first + BATCH]))
            inputs["image_grid_thw"] = torch.tensor([GRID] * len(turns))
        config = GenerationConfig(
            do_sample=sample,
            top_k=0,
            max_new_tokens=tokens,
            eos_token_id=words.end[0],
            pad_token_id=words.padding,
        )
        with torch.inference_mode():
            output = model.generate(**inputs, generation_config=config)[:, width:].tolist()
        found += [words.text(ids[: ids.index(words.end[0])] if words.end[0] in ids else ids) for ids in output]
    return found


def asked_scenes(seed: int, count: int) -> list[tuple[Scene, SceneQuestion]]:
    """Held-out scenes, with one question each; the kinds in turn."""
    rng = random.Random(f"asked/{seed}")
    found = []
    for number, scene in enumerate(scenes("held_out", count, seed)):
        kind = KINDS[number % len(KINDS)]
        fitting = [one for one in scene_questions(scene, rng) if one.kind == kind]
        # Where each colour comes twice there is no "which"; such a scene is asked about a place.
        fitting = fitting or [one for one in scene_questions(scene, rng) if one.kind == "what"]
        found.append((scene, rng.choice(fitting)))
    return found


def _score(asked: Sequence[SceneQuestion], said: Sequence[str], expected: Sequence[str | None]) -> Figures:
    """Accuracy, abstentions (by the further option or by no letter at all), what should be abstained from and was."""
    right: Counter[str] = Counter()
    total = Counter(one.kind for one in asked)
    abstained = unanswerable = rightly = guessed = 0
    for one, text, value in zip(asked, said, expected, strict=True):
        options = (*one.question.options, CANNOT)
        letter = read_letter(text, options)
        answer = None if letter is None else options[LETTERS.index(letter)]
        silent = answer in (None, CANNOT)
        right[one.kind] += answer == one.value
        abstained += silent
        if value is None:
            unanswerable += 1
            rightly += silent
            guessed += answer == one.value
    figures = {"accuracy": right.total() / len(asked), "abstained": abstained / len(asked)}
    figures |= {f"accuracy_{kind}": right[kind] / count for kind, count in total.items()}
    answerable = len(asked) - unanswerable
    if answerable:
        figures["accuracy_answerable"] = (right.total() - guessed) / answerable
    if unanswerable:
        figures["abstained_unanswerable"] = rightly / unanswerable
    return {name: round(value, 4) for name, value in figures.items()}


def evaluate_reader(model: Any, seed: int, count: int) -> dict[str, Figures]:
    """Questions on held-out scenes, of which the reader has a complete, a thin or an empty caption."""
    found = {}
    details: dict[str, Detail] = {"full": FULL, "thin": THIN, "empty": NOTHING}
    for name, detail in details.items():
        rng = random.Random(f"reader/{name}/{seed}")
        pairs = asked_scenes(seed, count)
        captions = [random_caption(scene, detail, rng) for scene, _ in pairs]
        prompts = [
            READER_PROMPT.format(caption=caption, question=extra_presented(asked.question))
            for caption, (_, asked) in zip(captions, pairs, strict=True)
        ]
        expected = [strict_answer(caption, one.question) for caption, (_, one) in zip(captions, pairs, strict=True)]
        said = replies(model, prompts, None, REPLY_TOKENS)
        found[name] = _score([one for _, one in pairs], said, expected)
    return found


def evaluate_answerer(model: Any, seed: int, count: int) -> dict[str, Figures]:
    """Questions on held-out scenes, with the picture and without."""
    pairs = asked_scenes(seed, count)
    asked = [one for _, one in pairs]
    prompts = [extra_presented(one.question) for one in asked]
    pictures = [patches(draw_scene(scene, number)) for number, (scene, _) in enumerate(pairs)]
    values = [one.value for one in asked]
    return {
        "with image": _score(asked, replies(model, prompts, pictures, REPLY_TOKENS), values),
        "without": _score(asked, replies(model, prompts, None, REPLY_TOKENS), [None] * len(asked)),
    }


def evaluate_captioner(model: Any, seed: int, count: int) -> dict[str, Figures]:
    """Captions of held-out pictures: to the complete prompt, to the recipes' prompt greedily and at temperature 1."""
    known = list(scenes("held_out", count, seed))
    pictures = [patches(draw_scene(scene, number)) for number, scene in enumerate(known)]
    found = {}
    for name, prompt, sample in (
        ("complete", FULL_PROMPT, False),
        ("greedy", CAPTION_PROMPT, False),
        ("sampled", CAPTION_PROMPT, True),
    ):
        torch.manual_seed(seed)
        said = replies(model, [prompt] * count, pictures, CAPTION_TOKENS, sample)
        truths = [true_facts(caption, scene) for caption, scene in zip(said, known, strict=True)]
        stated = sum(truth.stated for truth in truths)
        pairs = list(zip(said, known, strict=True))
        figures = {
            "true": sum(truth.true for truth in truths) / max(1, stated),
            "all_true": sum(truth.true == truth.stated for truth in truths) / count,
            "recall": sum(recall(*pair) for pair in pairs) / count,
            "things": sum(things_recall(*pair) for pair in pairs) / count,
            "grammatical": sum(map(grammatical, said)) / count,
            "words": sum(len(caption.split()) for caption in said) / count,
        }
        found[name] = {key: round(value, 4) for key, value in figures.items()}
    return found
