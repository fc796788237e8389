"""Questions about scenes, the rule-made reader, and that the models' replies are read by the project's own rules."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caprl_core.qa.letters import read_letter
from caprl_core.qa.present import presented
from caprl_core.qa.question import LETTERS, Question
from caprl_core.qa.rotation import EXTRA
from caprl_core.world.captions import FULL, NOTHING, THIN, full_caption, random_caption
from caprl_core.world.questions import CANNOT, KINDS, OPTIONS, leaky_questions, scene_questions
from caprl_core.world.reading import asked_about, stated_answer, strict_answer
from caprl_core.world.scene import Scene, Thing, random_scene, scenes

SCENE = Scene(
    (
        Thing("star", "orange", "at the top left"),
        Thing("cross", "blue", "at the middle centre"),
        Thing("circle", "blue", "at the bottom right"),
    )
)


def test_the_questions_of_a_scene() -> None:
    found = {one.question.stem: one.value for one in scene_questions(SCENE, random.Random(0))}
    assert found == {
        "What colour is the star?": "orange",
        "Where is the star?": "at the top left",
        "Which shape is at the top left?": "star",
        "Which shape is orange?": "star",
        "What colour is the cross?": "blue",
        "Where is the cross?": "at the middle centre",
        "Which shape is at the middle centre?": "cross",
        "What colour is the circle?": "blue",
        "Where is the circle?": "at the bottom right",
        "Which shape is at the bottom right?": "circle",
        "What is the number of shapes?": "three",
    }


@given(st.integers(0, 10_000))
def test_a_question_has_four_different_options_and_one_answer(seed: int) -> None:
    rng = random.Random(seed)
    scene = random_scene(rng)
    for one in [*scene_questions(scene, rng), *leaky_questions(scene, rng)]:
        assert len(set(one.question.options)) == len(one.question.options) == OPTIONS
        assert one.question.gold_text == one.value
        assert asked_about(one.question.stem) == (one.kind, one.subject)
        assert one.question.stem.endswith(f" {one.subject}?")
        assert strict_answer(full_caption(scene), one.question) == one.value


def test_all_kinds_come_and_answers_stand_everywhere() -> None:
    rng = random.Random(0)
    asked = [one for scene in scenes("train", 200) for one in scene_questions(scene, rng)]
    assert {one.kind for one in asked} == set(KINDS)
    places = [sum(one.question.gold == place for one in asked) / len(asked) for place in range(OPTIONS)]
    assert all(0.2 < share < 0.3 for share in places)


@pytest.mark.parametrize(
    ("caption", "stem", "options", "answer"),
    [
        ("There is an orange star.", "What colour is the star?", ("red", "orange"), "orange"),
        ("There is an orange star.", "What colour is the star?", ("red", "green"), None),
        ("There is a star.", "What colour is the star?", ("red", "orange"), None),
        ("There is a red cross.", "What colour is the star?", ("red", "orange"), None),
        ("There is a red star and an orange star.", "What colour is the star?", ("red", "orange"), None),
        ("There is a star at the top left.", "Which shape is at the top left?", ("star", "cross"), "star"),
        ("There is a red star and a red cross.", "Which shape is red?", ("star", "cross"), None),
        ("An image with two shapes.", "What is the number of shapes?", ("two", "four"), "two"),
        ("There is a star and a cross.", "What is the number of shapes?", ("two", "four"), None),
        ("A colourful picture.", "Where is the star?", ("at the top left", "at the top right"), None),
        ("There is a red star.", "Is the star red?", ("red", "green"), None),
        ("A colourful picture.", "What colour is the red star?", ("red", "green"), "red"),
    ],
)
def test_the_rule_made_reader_takes_captions_literally(
    caption: str, stem: str, options: tuple[str, ...], answer: str | None
) -> None:
    assert strict_answer(caption, Question(stem, options, 0)) == answer


def test_what_is_stated_need_not_be_an_option() -> None:
    assert stated_answer("There is an orange star.", "What colour is the star?") == "orange"
    assert stated_answer("There is an orange star and a red star.", "What colour is the star?") is None
    assert stated_answer("There is an orange star.", "Is it a star?") is None


def test_it_never_errs_on_true_captions_and_is_silent_on_empty_ones() -> None:
    rng = random.Random(1)
    answered = 0
    for scene in scenes("train", 150):
        thin, empty = random_caption(scene, THIN, rng), random_caption(scene, NOTHING, rng)
        full = random_caption(scene, FULL, rng)
        for one in scene_questions(scene, rng):
            assert strict_answer(thin, one.question) in (None, one.value)
            assert strict_answer(empty, one.question) is None
            assert strict_answer(full, one.question) == one.value
            answered += strict_answer(thin, one.question) is not None
    assert answered > 150


@given(st.integers(0, 10_000), st.booleans())
def test_replies_of_the_taught_form_are_read_as_meant(seed: int, extra: bool) -> None:
    rng = random.Random(seed)
    one = rng.choice(scene_questions(random_scene(rng), rng))
    order = tuple(rng.sample(range(OPTIONS), OPTIONS)) + ((EXTRA,) if extra else ())
    shown = presented(one.question, order, CANNOT)
    for letter, option in zip(LETTERS, shown.options, strict=False):
        assert read_letter(f" {one.subject} {option}\n{letter})", shown.options) == letter
    if not extra:
        assert read_letter(f" {one.subject} {CANNOT}", shown.options) is None
