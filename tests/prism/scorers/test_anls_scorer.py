"""ANLS: normalised Levenshtein similarity with a threshold of 0.5."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caprl_core.prism.question import BenchmarkQuestion
from caprl_core.prism.scorers.anls import MAX_GOLD_CHARACTERS, Anls, distance, similarity

CASES = [
    # gold, answer, points: 1 - edits / characters of the longer, by hand
    # the examples of the competition's page
    ("Coca Cola", "Coca cola", 1),
    ("Coca Cola", "CocaCola", 1 - 1 / 9),
    ("Coca Cola", "Cola", 0),
    ("Coca Cola", "Cat", 0),
    ("Coca Cola Company", "The Coca", 0),
    ("Coca Cola Company", "Coca Cola", 1 - 8 / 17),
    # equal
    ("a", "a", 1),
    ("", "", 1),
    ("ITC Limited", "itc limited", 1),
    ("1.5%", "1.5%", 1),
    ("北京", "北京", 1),
    # case makes no difference, spaces do, but not their number or those at the ends
    ("HELLO", "hello", 1),
    ("straße", "STRASSE", 1 - 2 / 7),
    ("new york", "newyork", 1 - 1 / 8),
    ("new york", " new   york ", 1),
    ("new york", "new\tyork", 1),
    ("new york", "new-york", 1 - 1 / 8),
    # one edit
    ("abcd", "abce", 0.75),
    ("abcd", "abc", 0.75),
    ("abcd", "abcde", 0.8),
    ("abcd", "xabcd", 0.8),
    ("abcd", "abdc", 0.5),  # two replacements: no transpositions
    ("kitten", "sitting", 1 - 3 / 7),
    ("saturday", "sunday", 1 - 3 / 8),
    ("flaw", "lawn", 0.5),
    ("intention", "execution", 0),  # 5 of 9
    # the threshold: exactly a half counts
    ("ab", "ac", 0.5),
    ("abcd", "abxy", 0.5),
    ("abc", "axy", 0),
    ("abcde", "abxyz", 0),
    ("abcdefgh", "abcd", 0.5),
    ("abcdefghi", "abcd", 0),
    ("a", "b", 0),
    ("a", "", 0),
    ("", "a", 0),
    # numbers are characters
    ("2019", "2018", 0.75),
    ("100", "1000", 0.75),
    ("5", "five", 0),
    ("45%", "45", 1 - 1 / 3),
    ("1,234", "1234", 0.8),
    ("$5.2", "5.2", 0.75),
    # unicode
    ("café", "cafe", 0.75),
    ("caf\u00e9", "cafe\u0301", 1),  # composed or not
    ("ÉCOLE", "école", 1),
    ("Москва", "москва", 1),
    ("İstanbul", "i\u0307stanbul", 1),
    ("日本語", "日本", 1 - 1 / 3),
    ("👍🏽", "👍", 0.5),
    # long
    ("the quick brown fox", "the quick brown dog", 1 - 2 / 19),
    ("answer", "the answer is here", 0),
]


@pytest.mark.parametrize(("gold", "answer", "wanted"), CASES)
def test_similarities_by_hand(gold: str, answer: str, wanted: float) -> None:
    assert similarity(gold, answer) == pytest.approx(wanted)


def test_the_best_gold_answer_counts() -> None:
    asked = BenchmarkQuestion("q", "?", (), ("Coca Cola", "Coca Cola Company"))
    for reply, points in (("CocaCola", 1 - 1 / 9), ("Coca Cola Compan", 1 - 1 / 17), ("Pepsi", 0)):
        verdict = Anls().score(asked, f"Answer: {reply}")
        assert (verdict.points, verdict.read) == (pytest.approx(points), reply)


def test_a_reply_without_an_answer_is_told_from_a_wrong_one() -> None:
    asked = BenchmarkQuestion("q", "?", (), ("Coca Cola",))
    assert Anls().score(asked, "I see\na can").read is None
    assert Anls().score(asked, r"\boxed{\text{Coca Cola}}").points == 1


@pytest.mark.parametrize("golds", [(), ("",), (" \n",), ("a", ""), ("x" * (MAX_GOLD_CHARACTERS + 1),)])
def test_an_unusable_gold_answer_is_said(golds: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="gold answer"):
        Anls().check(BenchmarkQuestion("q", "?", (), golds))
    Anls().check(BenchmarkQuestion("q", "?", (), ("x" * MAX_GOLD_CHARACTERS,)))


@given(one=st.text(max_size=40), other=st.text(max_size=40))
def test_similarity_is_symmetric_and_none_or_at_least_a_half(one: str, other: str) -> None:
    found = similarity(one, other)
    assert found == similarity(other, one)
    assert found == 0 or 0.5 <= found <= 1


@given(text=st.text(max_size=40))
def test_every_text_is_like_itself_in_any_case_and_with_more_spaces(text: str) -> None:
    assert similarity(text, text) == similarity(text, f"  {text}\n") == 1
    assert similarity(text, text.lower()) == 1


SHORT = st.text("abc", max_size=8)


@given(one=SHORT, other=SHORT, third=SHORT)
def test_the_distance_is_one(one: str, other: str, third: str) -> None:
    assert distance(one, other) == distance(other, one)
    assert (distance(one, other) == 0) is (one == other)
    assert distance(one, third) <= distance(one, other) + distance(other, third)
    assert abs(len(one) - len(other)) <= distance(one, other) <= max(len(one), len(other))


@given(text=st.text(max_size=20), place=st.integers(0, 20), letter=st.characters())
def test_one_edit_is_a_distance_of_one(text: str, place: int, letter: str) -> None:
    assert distance(text, text[:place] + letter + text[place:]) == 1
    if place < len(text):
        assert distance(text, text[:place] + text[place + 1 :]) == 1
        assert distance(text, text[:place] + letter + text[place + 1 :]) == (letter != text[place])


def test_a_long_answer_to_a_short_question_takes_no_time() -> None:
    assert similarity("x" * MAX_GOLD_CHARACTERS, "x" * 25_000) == 0
