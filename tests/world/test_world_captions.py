"""Captions of scenes, and the exact checks of a caption against a scene."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caprl_core.world.captions import (
    EMPTY_CAPTIONS,
    FULL,
    NOTHING,
    THIN,
    Detail,
    Truth,
    full_caption,
    grammatical,
    mixed_caption,
    random_caption,
    recall,
    scene_facts,
    stated_facts,
    things_recall,
    true_facts,
)
from caprl_core.world.scene import Scene, Thing, random_scene, scenes

SCENE = Scene(
    (
        Thing("star", "orange", "at the top left"),
        Thing("cross", "blue", "at the middle centre"),
        Thing("circle", "blue", "at the bottom right"),
    )
)
"""Ten facts: a count, and three of each thing."""
FULL_TEXT = (
    "There are three shapes: an orange star at the top left, a blue cross at the middle centre "
    "and a blue circle at the bottom right."
)


def test_the_complete_caption_says_everything() -> None:
    assert full_caption(SCENE) == FULL_TEXT
    assert stated_facts(FULL_TEXT) == scene_facts(SCENE)
    assert len(scene_facts(SCENE)) == 10
    assert recall(FULL_TEXT, SCENE) == things_recall(FULL_TEXT, SCENE) == 1.0


@pytest.mark.parametrize(
    ("caption", "stated", "true", "share", "things"),
    [
        ("An image.", 0, 0, 0.0, 0.0),
        ("", 0, 0, 0.0, 0.0),
        ("An image with three shapes.", 1, 1, 0.1, 0.0),
        ("An image with four shapes.", 1, 0, 0.0, 0.0),
        ("There is a star.", 1, 1, 0.1, 1 / 3),
        ("There is a square.", 1, 0, 0.0, 0.0),
        ("There is an orange star and a blue star.", 3, 2, 0.2, 1 / 3),
        ("There is a blue circle at the top left.", 3, 2, 0.2, 1 / 3),
        ("There is a star, a star and a star.", 1, 1, 0.1, 1 / 3),
        ("There are three shapes: a red diamond and a cross at the middle centre.", 5, 3, 0.3, 1 / 3),
        ("starcross blue at the top left", 0, 0, 0.0, 0.0),
    ],
)
def test_facts_counted_by_hand(caption: str, stated: int, true: int, share: float, things: float) -> None:
    assert true_facts(caption, SCENE) == Truth(stated, true)
    assert recall(caption, SCENE) == pytest.approx(share)
    assert things_recall(caption, SCENE) == pytest.approx(things)


@given(st.integers(0, 10_000), st.sampled_from([FULL, THIN, NOTHING, Detail(0.8, 0.5, 0.5, 0.5)]))
def test_whatever_is_written_is_true_and_grammatical(seed: int, detail: Detail) -> None:
    rng = random.Random(seed)
    scene = random_scene(rng)
    caption = random_caption(scene, detail, rng)
    assert grammatical(caption), caption
    truth = true_facts(caption, scene)
    assert truth.stated == truth.true
    if detail is FULL:
        assert stated_facts(caption) == scene_facts(scene)
    if detail is NOTHING:
        assert caption in EMPTY_CAPTIONS


@given(st.text(max_size=200))
def test_any_text_can_be_checked(text: str) -> None:
    truth = true_facts(text, SCENE)
    assert 0 <= truth.true <= truth.stated
    assert 0.0 <= recall(text, SCENE) <= 1.0
    grammatical(text)


@pytest.mark.parametrize(
    "caption",
    [
        FULL_TEXT[:-1],
        FULL_TEXT + " There is a star.",
        "There is an red star.",
        "There is a orange star.",
        "There is a star a cross.",
        "There is a star and a star.",
        "There are three shapes: .",
        "There are five shapes.",
        "There is a star at the top.",
        "there is a star.",
        "",
    ],
)
def test_what_is_no_sentence_of_ours(caption: str) -> None:
    assert not grammatical(caption)


def test_a_mixed_caption_keeps_the_grammar_and_contradicts_itself() -> None:
    rng = random.Random(0)
    pairs = [(random_scene(rng), random_scene(rng)) for _ in range(200)]
    mixed = [mixed_caption(pair, FULL, rng) for pair in pairs]
    truths = [true_facts(caption, pair[0]) for caption, pair in zip(mixed, pairs, strict=True)]
    assert all(truth.true < truth.stated for truth in truths)
    assert all(stated_facts(caption) >= scene_facts(pair[0]) for caption, pair in zip(mixed, pairs, strict=True))


def test_thin_captions_leave_most_out_and_sometimes_say_each_thing() -> None:
    rng = random.Random(0)
    pairs = [(random_caption(scene, THIN, rng), scene) for scene in scenes("train", 1000)]
    assert 0.40 < sum(things_recall(*pair) for pair in pairs) / len(pairs) < 0.50
    assert 0.25 < sum(recall(*pair) for pair in pairs) / len(pairs) < 0.38
    said = {aspect for caption, _ in pairs for aspect, _, _ in stated_facts(caption)}
    assert said == {"count", "shape", "colour", "place"}
