"""Draws: uniform, seeded, with the options in every order equally often."""

from collections import Counter
from itertools import permutations

from hypothesis import given
from hypothesis import strategies as st

from caprl_core.qa.question import Question
from caprl_core.qa.rotation import EXTRA
from caprl_core.reward.draws import Draw, caption_numbers, draw_questions
from support.asked_reader import question

sizes = st.integers(2, 6)
sets = st.lists(sizes, min_size=1, max_size=5).map(
    lambda many: [Question(f"What is {n}?", tuple("uvwxyz"[:size]), size - 1) for n, size in enumerate(many)]
)


def draws(
    questions: list[Question],
    count: int = 8,
    *,
    caption: str = "c",
    key: str = "k",
    step: int = 0,
    seed: int = 0,
    replacement: bool = True,
    shuffle: bool = True,
    abstain: str | None = None,
) -> list[Draw]:
    numbers = caption_numbers(seed, step, key, caption)
    return draw_questions(questions, count, numbers, replacement=replacement, shuffle=shuffle, abstain=abstain)


@given(sets, st.integers(1, 20), st.booleans(), st.booleans(), st.sampled_from([None, "cannot tell"]), st.text())
def test_every_draw_is_a_question_with_a_permutation_of_its_options(
    questions: list[Question], count: int, replacement: bool, shuffle: bool, abstain: str | None, caption: str
) -> None:
    found = draws(questions, count, caption=caption, replacement=replacement, shuffle=shuffle, abstain=abstain)
    assert len(found) == (count if replacement else min(count, len(questions)))
    for place, order in found:
        size = len(questions[place].options)
        assert sorted(order[:size]) == list(range(size))
        assert order[size:] == (() if abstain is None else (EXTRA,))
        assert shuffle or order[:size] == tuple(range(size))
    if not replacement:
        assert len({place for place, _ in found}) == len(found)


@given(sets, st.integers(0, 3), st.integers(0, 3), st.text(max_size=5), st.text(max_size=5), st.integers(1, 10))
def test_draws_are_decided_by_seed_step_image_and_caption_and_longer_lists_begin_alike(
    questions: list[Question], seed: int, step: int, key: str, caption: str, count: int
) -> None:
    first = draws(questions, count, seed=seed, step=step, key=key, caption=caption)
    longer = draws(questions, count + 5, seed=seed, step=step, key=key, caption=caption)
    assert longer[:count] == first


def test_each_of_the_four_changes_them() -> None:
    questions = [question(n) for n in range(5)]
    base = draws(questions)
    others = [
        draws(questions, caption="d"),
        draws(questions, key="l"),
        draws(questions, step=1),
        draws(questions, seed=1),
        draws(questions, key="kc", caption=""),
    ]
    assert all(other != base for other in others)
    # The same in every process and version: later runs must be able to tell what a step was asked.
    assert draws([question(0), question(1)], 3) == KNOWN


def test_questions_and_orders_are_drawn_evenly() -> None:
    questions = [Question(f"What is {n}?", ("x", "y", "z"), 0) for n in range(4)]
    found = [draw for step in range(1500) for draw in draws(questions, step=step)]  # 12,000
    by_question = Counter(draw.question for draw in found)
    by_order = Counter(draw.order for draw in found)
    assert set(by_order) == set(permutations(range(3)))
    # 5 standard deviations: 47 for questions (1/4), 41 for orders (1/6).
    assert all(abs(count - 3000) < 235 for count in by_question.values())
    assert all(abs(count - 2000) < 205 for count in by_order.values())


def test_nothing_is_drawn_from_nothing() -> None:
    assert draws([]) == []


def test_an_option_that_abstains_is_not_offered_twice() -> None:
    told = Question("What is it?", ("a cat", "Cannot  tell", "cannot tell "), 0)
    assert draws([told], 1, abstain="Cannot Tell")[0].order[-1] != EXTRA


KNOWN = [
    Draw(question=1, order=(1, 3, 2, 0)),
    Draw(question=0, order=(1, 3, 2, 0)),
    Draw(question=0, order=(2, 1, 3, 0)),
]
