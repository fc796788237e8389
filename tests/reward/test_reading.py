"""Reading a reader's reply: strict, total, and abstentions told from errors."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caprl_core.qa.letters import read_letter
from caprl_core.qa.question import LETTERS
from caprl_core.qa.rotation import EXTRA
from caprl_core.recipe.models import PromptRecipe
from caprl_core.reward.reading import outcome_of, read_reply, reader_prompt
from support.asked_reader import ABSTAIN, question

OPTIONS = ("red", "blue", "green", "white")


@pytest.mark.parametrize(
    ("reply", "letter"),
    [
        ("C", "C"),
        (" C\n", "C"),
        ("C)", "C"),
        ("(c) green", "C"),
        ("The answer is C.", "C"),
        ("green", "C"),
        ("E", "E"),
        (ABSTAIN, "E"),
        ("F", None),
        ("B or C", None),
        ("", None),
        ("A cat", None),
    ],
)
def test_letters_and_options_texts_are_read(reply: str, letter: str | None) -> None:
    assert read_reply(reply, (*OPTIONS, ABSTAIN)).letter == letter


@pytest.mark.parametrize(
    "reply",
    [
        "Can not answer based on the caption",
        "Cannot answer.",
        "can't be determined",
        "I cannot tell from the description",
        "The description does not say",
        "It is not mentioned",
        "Not enough information",
        "Unknown",
        "Sorry, I can\u2019t answer",
        "\u65e0\u6cd5\u786e\u5b9a",
    ],
)
@pytest.mark.parametrize("options", [OPTIONS, (*OPTIONS, ABSTAIN)], ids=["no option for it", "an option for it"])
def test_a_reply_that_declines_is_an_abstention_and_never_option_c(reply: str, options: tuple[str, ...]) -> None:
    reading = read_reply(reply, options)
    assert (reading.letter, reading.abstained) == (None, True)
    assert outcome_of(reading, question(0, gold=2), (0, 1, 2, 3)) == "abstained"


@pytest.mark.parametrize(
    "reply", ["Certainly! The", "Blue or green", "Known as", "hm", "D) is not mentioned, so C) is"]
)
def test_other_words_are_unread(reply: str) -> None:
    reading = read_reply(reply, OPTIONS)
    assert outcome_of(reading, question(0), (0, 1, 2, 3)) == "unread"


def test_a_letter_means_the_option_shown_under_it() -> None:
    order = (2, 0, 3, 1, EXTRA)  # A is green, B red, C white, D blue, E abstains
    said = {
        letter: outcome_of(read_reply(letter, (*OPTIONS, ABSTAIN)), question(0, gold=3), order) for letter in "ABCDE"
    }
    assert said == {"A": "wrong", "B": "wrong", "C": "right", "D": "wrong", "E": "abstained"}
    assert outcome_of(None, question(0), order) == "failed"


@given(st.one_of(st.text(), st.sampled_from(LETTERS), st.text("ABCDEFab ().", max_size=4)), st.integers(2, 7))
def test_the_short_way_reads_as_the_general_one_and_nothing_breaks_it(reply: str, size: int) -> None:
    options = [f"option {n}" for n in range(size)]
    reading = read_reply(reply, options)
    assert reading.letter == read_letter(reply, options)
    assert not (reading.abstained and reading.letter)
    assert len(reading.reply) <= 80


def test_braces_in_a_caption_are_no_places_of_the_prompt() -> None:
    prompt = reader_prompt(PromptRecipe(id="p", text="Read {caption} then {question} now"))
    assert prompt.text("{question} {caption}", "{caption}?") == "Read {question} {caption} then {caption}? now"
