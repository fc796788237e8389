"""The reward's arithmetic, by hand."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caprl_core.recipe.reward import LengthRecipe, TermsRecipe
from caprl_core.reward.terms import accuracy, credit, format_term, length_term, term_values, weighted_sum

RIGHT, WRONG, ABSTAINED, UNREAD, FAILED = "right", "wrong", "abstained", "unread", "failed"


@pytest.mark.parametrize(
    ("outcomes", "expected"),
    [
        ([RIGHT] * 8, 1.0),
        ([WRONG] * 8, 0.0),
        ([RIGHT] * 3 + [WRONG] * 5, 3 / 8),
        ([RIGHT, WRONG, ABSTAINED, UNREAD], 1 / 4),
        ([RIGHT, FAILED, FAILED, WRONG], 1 / 2),  # equation 3 over what was answered
        ([RIGHT, FAILED, FAILED, FAILED], 1.0),
        ([FAILED, FAILED], None),
        ([], None),
    ],
)
def test_equation_3(outcomes: list, expected: float | None) -> None:
    assert accuracy(outcomes) == expected


def test_an_abstention_may_count_otherwise_than_an_error() -> None:
    outcomes: list = [RIGHT, RIGHT, WRONG, ABSTAINED, UNREAD, FAILED]
    assert credit(outcomes, wrong=-0.5, abstained=0.1) == pytest.approx((2 - 0.5 + 0.1 - 0.5) / 5)


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [(1, 1.0), (2048, 1.0), (2049, 1023 / 1024), (2560, 0.5), (3071, 1 / 1024), (3072, 0.0), (9000, 0.0), (0, 0.0)],
)
def test_length_is_one_up_to_l1_and_falls_to_nothing_at_l2(tokens: int, expected: float) -> None:
    assert length_term("A cat.", tokens, LengthRecipe()) == pytest.approx(expected)


@pytest.mark.parametrize("nothing", ["", "  \n\t", "\u200b\ufeff"])
def test_an_empty_caption_earns_nothing_by_being_short(nothing: str) -> None:
    assert length_term(nothing, 3, LengthRecipe()) == 0.0
    assert format_term(nothing) == 0.0


def test_without_a_token_count_there_is_no_length_term() -> None:
    assert term_values("A cat.", None, TermsRecipe(length=LengthRecipe(), format=1.0)) == {"format": 1.0}


@pytest.mark.parametrize(
    "caption",
    [
        "A red circle above a blue square.",
        "The sign says: 'This is a complete guide'.",
        "A page of a manual. The text describes an accurate clock.",
        "Two shirts cost < 5 | 6 >.",
    ],
)
def test_a_caption_is_well_formed(caption: str) -> None:
    assert format_term(caption) == 1.0


@pytest.mark.parametrize(
    "caption",
    [
        "A cat.<|im_end|>",
        "<image> A cat.",
        "<think>I see a cat</think> A cat.",
        "A cat. This description is accurate and complete.",
        "A cat. The above caption captures every detail of the picture.",
        "A cat. This caption provides a highly detailed account",
    ],
)
def test_chat_tokens_and_self_praise_are_not(caption: str) -> None:
    assert format_term(caption) == 0.0


def test_the_sum_of_capacities_by_hand() -> None:
    recipe = TermsRecipe(scale=2.0, length=LengthRecipe(full=10, none=20, weight=0.2), format=0.1)
    values = term_values("A cat.", 15, recipe)
    assert values == {"length": 0.5, "format": 1.0}
    assert weighted_sum(0.75, values, recipe) == pytest.approx(2 * 0.75 + 0.2 * 0.5 + 0.1)
    assert weighted_sum(0.75, term_values("A cat.", None, TermsRecipe()), TermsRecipe()) == 0.75


@given(st.text(), st.integers(0, 10_000))
def test_terms_stay_between_0_and_1_whatever_is_written(caption: str, tokens: int) -> None:
    for value in term_values(caption, tokens, TermsRecipe(length=LengthRecipe(), format=1.0)).values():
        assert 0.0 <= value <= 1.0
        assert math.isfinite(value)


def test_a_length_that_does_not_fall_is_refused() -> None:
    with pytest.raises(ValueError, match="larger than full"):
        LengthRecipe(full=10, none=10)
