"""Rotations: the gold everywhere equally often, the options as they were, the same orders for the same seed."""

import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, replace
from math import factorial

from hypothesis import given
from hypothesis import strategies as st

from caprl_core.qa.present import presented, prompt_with
from caprl_core.qa.question import Question
from caprl_core.qa.rotation import EXTRA, Order, order_of, order_text, rotations
from support.pen import Pen, drawn


@dataclass(frozen=True)
class Asked:
    """What decides a question's orders."""

    question: Question
    name: str
    count: int
    seed: int

    def rotations(self, *, extra: bool) -> list[Order]:
        return rotations(self.question, self.name, self.count, self.seed, extra)


def asked(pen: Pen) -> Asked:
    """A question of any texts with a name of 20 hex digits, 0 to 64 rotations and a seed."""
    name, count, seed = f"{pen.below(16**20):020x}", pen.below(65), pen.below(2**31 + 1)
    options = dict.fromkeys(pen.some_text(20) for _ in range(pen.between(2, 6)))
    if len(options) < 2:
        options["another"] = None
    return Asked(Question(pen.some_text(20), tuple(options), pen.below(len(options))), name, count, seed)


ASKED = drawn(asked, 200)


def four(gold: int = 2) -> Question:
    return Question("What stands on the hill?", ("a mill", "a barn", "a church", "a mast"), gold)


@given(ASKED, st.booleans())
def test_every_order_shows_every_option_once_and_the_extra_one_last(asked: Asked, extra: bool) -> None:
    question, orders = asked.question, asked.rotations(extra=extra)
    assert len(orders) == asked.count
    for order in orders:
        assert (order[-1] == EXTRA) == extra
        shown = presented(question, order, "neither" if extra else None)
        assert sorted(shown.options[: len(question.options)]) == sorted(question.options)
        assert shown.options[len(question.options) :] == (("neither",) if extra else ())
        assert shown.options[order.index(question.gold)] == question.gold_text
        assert order_of(order_text(order)) == order


@given(ASKED)
def test_the_gold_stands_in_each_position_equally_often(asked: Asked) -> None:
    size, count = len(asked.question.options), asked.count
    places = Counter(order.index(asked.question.gold) for order in asked.rotations(extra=False))
    assert all(count // size <= places[place] <= -(-count // size) for place in range(size))


@given(ASKED)
def test_no_order_comes_twice_before_all_have_come(asked: Asked) -> None:
    orders = asked.rotations(extra=False)
    assert len(set(orders)) == min(asked.count, factorial(len(asked.question.options)))
    # Beyond that the repetitions are spread evenly.
    times = Counter(orders).values()
    assert not times or max(times) - min(times) <= 1


@given(ASKED, st.integers(0, 64), st.booleans())
def test_a_longer_list_begins_with_the_shorter_one(asked: Asked, other: int, extra: bool) -> None:
    one = asked.rotations(extra=extra)
    two = replace(asked, count=other).rotations(extra=extra)
    short, long = sorted((one, two), key=len)
    assert long[: len(short)] == short


@given(ASKED)
def test_both_branches_are_asked_in_the_same_orders(asked: Asked) -> None:
    assert [order[:-1] for order in asked.rotations(extra=True)] == asked.rotations(extra=False)


def test_fewer_rotations_than_options_favour_no_position() -> None:
    first = Counter(rotations(four(), f"{n:020x}", 1, 0, extra=False)[0].index(2) for n in range(4000))
    # 1,000 each is expected; 5 standard deviations are 137.
    assert all(863 < first[place] < 1137 for place in range(4))
    neighbours = Counter(rotations(four(), f"{n:020x}", 1, 0, extra=False)[0] for n in range(4800))
    assert len(neighbours) == 24
    assert all(130 < times < 270 for times in neighbours.values())


def test_seed_and_question_decide() -> None:
    lists = {tuple(rotations(four(), name, 8, seed, extra=False)) for name in ("0" * 20, "1" * 20) for seed in range(5)}
    assert len(lists) == 10


EXPECTED = ["ACDB", "CBAD", "DBCA", "DABC", "ABCD", "ADBC"]


def test_the_orders_are_the_same_in_every_process_and_version() -> None:
    """Stored votes and resumed runs depend on these letters: they may never change."""
    orders = [order_text(order) for order in rotations(four(), "0123456789abcdef0123", 6, 7, extra=False)]
    script = (
        "from caprl_core.qa.question import Question\nfrom caprl_core.qa.rotation import order_text, rotations\n"
        "question = Question('s', ('w', 'x', 'y', 'z'), 2)\n"
        "print(*map(order_text, rotations(question, '0123456789abcdef0123', 6, 7, False)))"
    )
    other = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": "1"}
    )
    assert orders == other.stdout.split() == EXPECTED


def test_a_question_is_shown_stem_first_and_with_fresh_letters() -> None:
    question = Question("What is this?\nLook closely.", ("a cat", "a dog", "a hen", "a fox", "an ox", "an eel"), 0)
    shown = presented(question, (3, 0, 5, 4, 1, 2, EXTRA), "none of these")
    assert shown.text == (
        "What is this?\nLook closely.\nA) a fox\nB) a cat\nC) an eel\nD) an ox\nE) a dog\nF) a hen\nG) none of these"
    )
    assert shown.letters == tuple("ABCDEFG")


def test_a_prompt_takes_the_question_as_it_is() -> None:
    hostile = "What does {question} say? {0} %s"
    assert prompt_with("Q: {question}\nA:", hostile) == f"Q: {hostile}\nA:"
    assert prompt_with("Answer with a letter.", "Why?") == "Why?\nAnswer with a letter."
