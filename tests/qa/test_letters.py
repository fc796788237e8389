"""Reading the answerer's replies: strictly, and never by a letter that merely stands somewhere."""
# ruff: noqa: E501 - a table: one row a line

import pytest
from hypothesis import given

from caprl_core.qa.letters import read_letter
from caprl_core.qa.question import LETTERS
from support.pen import Pen, drawn

ANIMALS = ["cat", "dog", "a blue bird", "horse"]

C_NAMED = [
    *(
        "C",
        "c",
        "C)",
        "(c)",
        "(C)",
        "C.",
        "C:",
        "[C]",
        "**C**",
        "`C`",
        '"C"',
        "**C)**",
        "**(C)**",
        " C \n",
        "Ｃ",
        "（Ｃ）",
    ),
    *("С", "$C$", r"\boxed{C}", r"$\boxed{\text{C}}$", "<answer>C</answer>", "Option C", "option (c)", "Letter C"),
    *(
        "The answer is C.",
        "The answer is C",
        "The answer is: C",
        "The correct answer is **C**.",
        "Answer: C",
        "answer: c",
    ),
    *(
        "**Answer:** C",
        "Answer: C) a blue bird",
        "Final answer: (C)",
        "So the answer is option C.",
        "The correct option is C.",
    ),
    *(
        "C) a blue bird",
        "C. A blue bird.",
        "C: a blue bird",
        "(C) A BLUE BIRD",
        "a blue bird",
        "A blue bird.",
        "A  Blue Bird",
    ),
    *(
        "**a blue bird**",
        "The answer is a blue bird.",
        "The answer is A blue bird",
        "C is correct.",
        "Option C is the correct answer",
    ),
    *(
        "C) the one that is blue",
        "C, because it is blue",
        "C - it has wings",
        "C (upper left)",
        "I choose C.",
        "It's C.",
    ),
    *("答案是C。", "答案：C", "选C", "Ответ: С", "Réponse : C", "Antwort: C", "정답: C", "正解：C"),
    *(
        "The picture shows A) no cat.\nIt is blue.\n\nAnswer: C",
        "It has wings.\nC",
        "C\n\nThe bird is blue.",
        "C) a blue bird\nIt is blue.",
    ),
    *(
        "<think>A or B? A.\nAnswer: A</think>\nC",
        "Looking at it, a cat is absent. The answer is C.",
        "Answer: C\nAnswer: C",
    ),
    *("The answer is C because a cat is smaller.", "C) a blu"),
]

NOTHING_NAMED = [
    *("", "  \n ", "Can not answer based on the caption", "Cannot say", "A cow", "Answer", "Answer:", "Any", "Animal", "Don't know"),
    *("A and C", "A, C", "A or B", "A/C", "AC", "ABCD", "A) B) C) D)", "Either A) or B)", "C, not A", "C or D"),
    *("A\nC", "Answer: A\nAnswer: C", "The answer is A. No, the answer is C.", "A) cat\nB) dog\nC) a blue bird"),
    *("E", "E)", "(F)", "The answer is E.", "I", "I see a bird", "I think so", "C) dog", "C. cat", "Answer: C) horse"),
    *("The answer is A or B", "The answer is unclear", "A bird and a dog", "cat or dog", "blue", "bird", "Bird: a dog", "3", "©"),
    *("I'm sorry, but I can't see the image.", "None of the above", "a blue bird, a dog", "Cats", "BB", "b c", "Certainly! Here"),
]  # fmt: skip


@pytest.mark.parametrize("reply", C_NAMED)
def test_replies_that_name_the_third_option(reply: str) -> None:
    assert read_letter(reply, ANIMALS) == "C"


@pytest.mark.parametrize("reply", NOTHING_NAMED)
def test_replies_that_name_no_option_or_two(reply: str) -> None:
    assert read_letter(reply, ANIMALS) is None


def test_a_text_that_begins_with_a_letter_is_its_option() -> None:
    assert read_letter("A cat", ["a dog", "a cat"]) == "B"
    assert read_letter("A cat", ["cat", "dog"]) == "A"
    assert read_letter("A. Milne", ["B. Potter", "A. Milne"]) == "B"
    assert read_letter("C", ["cat", "dog"]) is None


def test_a_lone_letter_is_a_letter_even_if_it_is_another_options_text() -> None:
    assert read_letter("A", ["B", "A"]) == "A"
    assert read_letter("(A) B", ["B", "A"]) == "A"
    assert read_letter("(A)", ["(B)", "(A)"]) == "A"
    assert read_letter("(A) A", ["B", "A"]) is None


def test_numbers_are_read_as_texts_only() -> None:
    assert read_letter("3", ["1", "3", "5"]) == "B"
    assert read_letter("B) 3", ["1", "3", "5"]) == "B"
    assert read_letter("B) 5", ["1", "3", "5"]) is None


def test_equal_options_cannot_be_named_by_their_text() -> None:
    assert read_letter("cat", ["cat", "Cat"]) is None
    assert read_letter("B) cat", ["cat", "Cat"]) == "B"


def test_a_reply_of_a_megabyte_is_read_at_its_ends() -> None:
    assert read_letter("word " * 200_000 + "\nAnswer: B", ANIMALS) == "B"
    assert read_letter("Answer: " * 130_000, ANIMALS) is None
    assert read_letter("(" * 1_000_000, ANIMALS) is None


DRESSES = ("{}", "({})", "{})", "{}.", "**{}**", "The answer is {}.", "Answer: {}", "\\boxed{{{}}}")
OPTIONS_SAY = (
    *ANIMALS,
    *"ABC",
    "b",
    "A) cat",
    "Answer: A",
    "The answer is B.",
    "(C)",
    "A cat",
    "a dog.",
    "**dog**",
    "",
)


def option(pen: Pen) -> str:
    """A text of at most 20 characters, some of them as answers are worded."""
    return pen.one_of(OPTIONS_SAY) if pen.below(3) == 2 else pen.text(20)


def replied(pen: Pen) -> tuple[str, list[str]]:
    """A reply of whatever stands in the tables above and in the options, and 0 to 9 options."""
    options = [option(pen) for _ in range(pen.below(len(LETTERS) + 1))]
    said = pen.soup((*C_NAMED, *NOTHING_NAMED, *options, *options, *options), 6)
    return said if pen.below(3) else pen.text(200), options


def lettered(pen: Pen) -> tuple[str, int, list[str]]:
    """A dress for a letter, which of the options it names, and 2 to 6 options."""
    dress, count = pen.one_of(DRESSES), pen.between(2, 6)
    return dress, pen.below(count), [option(pen) for _ in range(count)]


@given(drawn(replied, 400))
def test_any_reply_gives_a_letter_that_was_offered_or_none(case: tuple[str, list[str]]) -> None:
    reply, options = case
    letter = read_letter(reply, options)
    assert letter is None or letter in LETTERS[: len(options)]


@given(drawn(lettered, 200))
def test_a_letter_in_any_dress_is_read_whatever_the_options_say(case: tuple[str, int, list[str]]) -> None:
    dress, place, options = case
    assert read_letter(dress.format(LETTERS[place]), options) == LETTERS[place]
