"""Mathematical equivalence."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caprl_core.prism.question import BenchmarkQuestion
from caprl_core.prism.scorers.math import Math, same

SAME = [
    (r"\frac{1}{2}", "0.5"),
    ("1/2", r"\frac{1}{2}"),
    ("0.5", r"\dfrac12"),
    ("5", "5.0"),
    ("5", "x=5"),
    ("x=5", "5"),
    ("5", "$5$"),
    (r"\(5\)", "5"),
    ("1,234", "1234"),
    ("50%", r"50\%"),
    ("50%", "0.5"),
    (r"2\sqrt{3}", r"\sqrt{12}"),
    (r"\frac{1}{\sqrt{3}}", r"\frac{\sqrt{3}}{3}"),
    ("x^2+2x+1", "(x+1)^2"),
    ("a^2-b^2", "(a-b)(a+b)"),
    (r"\sin^2 x+\cos^2 x", "1"),
    ("2,3", "3, 2"),
    (r"\{1,2\}", r"\{2,1\}"),
    ("(1,2)", "(1, 2)"),
    ("[1,2)", "[1,2)"),
    ("x<3", "3>x"),
    (r"30^\circ", "30"),
    ("5 cm", "5"),
    (r"12\text{ m/s}", "12"),
    ("0.333333", r"\frac{1}{3}"),
    (r"2\pi r", r"2r\pi"),
    ("10^{-3}", "0.001"),
    (r"1.5\times 10^3", "1500"),
    (r"\log_2 8", "3"),
    ("7!", "5040"),
    (r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", r"\begin{bmatrix}1&2\\3&4\end{bmatrix}"),
    ("A", "A"),
    ("Tuesday", "tuesday"),
    (r"\text{Tuesday}", "Tuesday"),
    ("north east", "North-East."),
    ("yes", "Yes"),
    ("123456789012345678901234567890", "123456789012345678901234567890"),
]
DIFFERENT = [
    ("5", "6"),
    ("5", ""),
    ("0.5", "0.51"),
    ("x+1", "x-1"),
    ("a/b", "b/a"),
    ("[1,2)", "[1,2]"),
    ("x=1", "y=1"),
    ("A", "B"),
    ("arm", "ram"),  # for math-verify the same product
    ("listen", "silent"),
    ("north east", "east north"),
    ("Yes", "No"),
    (r"\sqrt{2}", "1.41"),
    ("5", "not a number {{{"),
    ("x<3", "x>3"),
    (r"\pi", "3.14"),
]


@pytest.mark.parametrize(("gold", "answer"), SAME)
def test_the_same(gold: str, answer: str) -> None:
    assert same(gold, answer)
    assert Math().score(BenchmarkQuestion("q", "?", (), ("0.123", gold)), rf"so \boxed{{{answer}}}").points == 1


@pytest.mark.parametrize(("gold", "answer"), DIFFERENT)
def test_not_the_same(gold: str, answer: str) -> None:
    assert not same(gold, answer)


def test_a_reply_without_an_answer_is_told_from_a_wrong_one() -> None:
    asked = BenchmarkQuestion("q", "?", (), ("5",))
    assert Math().score(asked, "first\nsecond").read is None
    verdict = Math().score(asked, r"<think>5</think>so \boxed{7}")
    assert (verdict.points, verdict.read) == (0, "7")


def test_gold_answers_that_are_mathematics_or_words_pass() -> None:
    golds = (*(gold for gold, _ in SAME), "x", "AB", r"\text{no solution}", "$5$", "12:30", "-3.5", "(2, 3)")
    for gold in golds:
        Math().check(BenchmarkQuestion("q", "?", (), (gold,)))


@pytest.mark.parametrize(
    ("golds", "words"),
    [
        ((), "no gold answer"),
        (("",), "empty"),
        (("5", " "), "empty"),
        (("5 apples {and",), "match"),
        (("9" * 2001,), "2001"),
    ],
)
def test_an_unusable_gold_answer_is_said(golds: tuple[str, ...], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Math().check(BenchmarkQuestion("q", "?", (), golds))


@given(number=st.decimals(-(10**8), 10**8, places=4))
def test_numbers_are_the_same_however_many_zeros_they_end_with(number: object) -> None:
    assert same(f"{number:f}", f"{number:f}00")
    assert not same(f"{number:f}", f"{number:f}1")


@given(gold=st.text(min_size=1, max_size=30))
def test_every_gold_answer_is_right_for_itself(gold: str) -> None:
    assert same(gold, gold)
