"""The orders a question's options are asked in: seeded, and balanced in where the right option stands."""

from collections.abc import Sequence
from math import factorial

from caprl_core.qa.question import LETTERS, Question
from caprl_core.qa.seeded_numbers import SeededNumbers

Order = tuple[int, ...]
"""Stored positions of the options in the order presented; the further, never right option is `EXTRA`, always last."""

EXTRA = -1
_EXTRA_MARK = "-"


def rotations(question: Question, question_id: str, count: int, seed: int, extra: bool) -> list[Order]:
    """`count` orders of the options, decided by `seed`, `question_id` and the number of options alone.

    Of each run of as many orders as there are options, the gold stands once in each position, in a random sequence: so
    any count puts it everywhere equally often, give or take one. The other options stand in random order; with the gold
    in one position, no order comes twice before all have come. A longer list begins with the shorter one.
    """
    draws = SeededNumbers(f"{seed}/{question_id}")
    size = len(question.options)
    others = [place for place in range(size) if place != question.gold]
    arrangements = factorial(len(others))
    used: list[set[int]] = [set() for _ in range(size)]
    orders: list[Order] = []
    positions: list[int] = []
    while len(orders) < count:
        if not positions:
            positions = arranged(draws.below(factorial(size)), range(size))
        position = positions.pop()
        if len(used[position]) == arrangements:
            used[position].clear()
        number = draws.below(arrangements)
        while number in used[position]:
            number = (number + 1) % arrangements
        used[position].add(number)
        order = arranged(number, others)
        order.insert(position, question.gold)
        orders.append((*order, EXTRA) if extra else tuple(order))
    return orders


def order_text(order: Order) -> str:
    """As stored in a vote: `CADB` shows stored option C as (A); `-` is the extra option."""
    return "".join(_EXTRA_MARK if place == EXTRA else LETTERS[place] for place in order)


def order_of(text: str) -> Order:
    """From a stored vote. Raises `ValueError` for letters there are none of."""
    return tuple(EXTRA if letter == _EXTRA_MARK else LETTERS.index(letter) for letter in text)


def arranged(number: int, items: Sequence[int]) -> list[int]:
    """The permutation of `items` with this number, 0 to (their count)! - 1, in lexicographic order."""
    left, chosen = list(items), []
    for remaining in range(len(left) - 1, -1, -1):
        place, number = divmod(number, factorial(remaining))
        chosen.append(left.pop(place))
    return chosen
