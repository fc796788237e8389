"""`exact` and `match`."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caprl_core.prism.question import BenchmarkQuestion
from caprl_core.prism.scorers.match import Exact, Match, matches, normal

SAME = [
    ("Yes", "yes"),
    ("yes.", "Yes!"),
    ("the United States", "United States"),
    ("An apple", "apple"),
    ("U.S.", "u.s"),
    ("twenty-one", "twenty one"),
    ("don't", "dont"),
    ("don\u2019t", "don't"),
    ("café", "CAFE\u0301"),
    ("ＡＢＣ", "abc"),
    ("ﬁve", "5"),
    ("two", "2"),
    ("1,234", "1234"),
    ("1,234,567", "1234567"),
    ("5.0", "5"),
    ("-5", "−5"),
    ("5%", "5 percent"),
    ("5 %", "5%"),
    ("straße", "STRASSE"),
    ("  a   big   cat ", "big cat"),
    ('"Coca Cola"', "coca cola"),
    ("(left)", "left"),
    ("10:30", "10:30"),
    ("Coca-Cola", "coca cola"),
    ("?", " ?"),
]
DIFFERENT = [
    ("3.5", "35"),
    ("-5", "5"),
    ("$5", "5"),
    ("5%", "5"),
    ("1.234", "1234"),
    ("10:30", "1030"),
    ("1/2", "12"),
    ("2010-2015", "2010 2015"),
    ("cat", "cats"),
    ("A", "B"),
    ("the", "a"),
    ("?", "!"),
    ("C++", "C"),
    ("12,34", "1234"),
    ("", "x"),
    ("none", "0"),
    ("5.01", "5.0"),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_texts_that_are_the_same_after_normalisation(one: str, other: str) -> None:
    assert normal(one) == normal(other)


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_texts_that_are_not(one: str, other: str) -> None:
    assert normal(one) != normal(other)


def test_match_takes_any_gold_answer_and_reads_latex() -> None:
    asked = BenchmarkQuestion("q", "?", (), ("Yes", "Of course"))
    for reply, points in (("Answer: yes.", 1), ("of course!", 1), (r"\boxed{\text{Yes}}", 1), ("no", 0), ("a\nb", 0)):
        assert Match().score(asked, reply).points == points
    assert Match().score(asked, "a\nb").read is None


def test_exact_wants_the_very_text() -> None:
    asked = BenchmarkQuestion("q", "?", (), ("Coca  Cola", "5%"))
    for reply, points in (
        ("Coca Cola", 1),
        ("Answer: Coca Cola", 1),
        (r"\boxed{5\%}", 1),
        ("coca cola", 0),
        ("5 %", 0),
    ):
        assert Exact().score(asked, reply).points == points
    assert Exact().score(asked, "a\nb").read is None


@pytest.mark.parametrize("scorer", [Exact(), Match()])
@pytest.mark.parametrize("golds", [(), ("",), ("a", " ")])
def test_an_empty_gold_answer_is_said(scorer: Exact | Match, golds: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="gold answer"):
        scorer.check(BenchmarkQuestion("q", "?", (), golds))
    scorer.check(BenchmarkQuestion("q", "?", (), ("a",)))


@given(text=st.text(max_size=60))
def test_every_text_matches_itself(text: str) -> None:
    assert matches((text,), text)


@given(text=st.text(max_size=60))
def test_case_and_white_space_never_matter_to_match(text: str) -> None:
    assert normal(text) == normal(f" {text}\n ") == normal("\u00a0".join(["", text, ""]))
    assert normal(text.casefold()) == normal(text)
