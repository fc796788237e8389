"""Multiple choice: letters read strictly, abstentions told apart, CaptionQA's credit."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caprl_core.prism.question import BenchmarkQuestion
from caprl_core.prism.scorers.choice import ABSTAINED, LETTERS, Choice, ChoiceOrAbstain, may_abstain, read_option

ANIMALS = ("cat", "dog", "a blue bird", "horse")
TEN = ("red", "green", "blue", "white", "black", "pink", "grey", "brown", "gold", "a dark teal")


def question(options: tuple[str, ...] = ANIMALS, gold: str = "C", text: str = "What sits there?") -> BenchmarkQuestion:
    return BenchmarkQuestion("q", text, options, (gold,))


READ = [
    # reply, what is read of four options
    ("C", "C"),
    ("c", "C"),
    ("(C)", "C"),
    ("C.", "C"),
    ("**C**", "C"),
    ("C) a blue bird", "C"),
    ("a blue bird", "C"),
    ("A blue bird.", "C"),
    ("Answer: C", "C"),
    ("**Answer:** C", "C"),
    ("The bird is blue.\n\nAnswer: C", "C"),
    ("The answer is (B).", "B"),
    ("<think>A? no.</think>\nAnswer: C", "C"),
    (r"<think>x</think><answer>\boxed{C}</answer>", "C"),
    (r"\boxed{\text{B}}", "B"),
    ("Option D", "D"),
    ("答案是B。", "B"),
    ("Ответ: А", "A"),
    ("C, because it has wings", "C"),
    ("It is a bird.\nC", "C"),
    ("D is correct.", "D"),
    # nothing that can be read
    ("", None),
    ("I see.", None),
    ("A bird sits there.", None),
    ("A or B", None),
    ("A and C", None),
    ("Answer: A\nAnswer: B", None),
    ("B) cat", None),
    ("a bird", None),
    ("F", None),
    ("The caption mentions a cat and a dog.", None),
    ("<think>C", None),
    ("2", None),
    ("Yes", None),
    # abstentions: the letter after the last option, or words
    ("E", ABSTAINED),
    ("(E)", ABSTAINED),
    ("Answer: E", ABSTAINED),
    (r"\boxed{E}", ABSTAINED),
    ("E) Cannot answer from the caption", ABSTAINED),
    ("Cannot answer from the caption", ABSTAINED),
    ("Cannot answer from the caption.", ABSTAINED),
    ("I cannot determine that.", ABSTAINED),
    ("The caption does not mention it.", ABSTAINED),
    ("无法判断", ABSTAINED),
    ("<think>C?</think>I do not know.", ABSTAINED),
]


@pytest.mark.parametrize(("reply", "read"), READ)
def test_four_options(reply: str, read: str | None) -> None:
    assert read_option(reply, ANIMALS) == read
    verdict = Choice().score(question(), reply)
    assert (verdict.read, verdict.points) == (read, float(read == "C"))


TEN_READ = [
    # MMMU-Pro has ten options; the eleventh letter abstains
    *((letter, letter) for letter in "ABCDEFGHIJ"),
    *((f"Answer: ({letter})", letter) for letter in "AIJ"),
    ("J) a dark teal", "J"),
    ("a dark teal", "J"),
    ("j", "J"),
    ("**J**", "J"),
    (r"\boxed{J}", "J"),
    ("K", ABSTAINED),
    ("Answer: K", ABSTAINED),
    ("Cannot answer from the caption", ABSTAINED),
    ("L", None),
    ("A or J", None),
    ("Answer: A\nAnswer: J", None),
    ("J or A", None),
    ("I would say so", None),
    ("A jay", None),
]


@pytest.mark.parametrize(("reply", "read"), TEN_READ)
def test_ten_options(reply: str, read: str | None) -> None:
    assert read_option(reply, TEN) == read


UNLISTED_READ = [
    ("C", "C"),
    ("J", "J"),
    ("Answer: (B) 45", "B"),
    ("The answer is D.", "D"),
    ("K", None),
    ("45", None),
    ("A or B", None),
    ("Cannot tell from the description.", ABSTAINED),
]


@pytest.mark.parametrize(("reply", "read"), UNLISTED_READ)
def test_options_that_stand_in_the_question_are_read_by_letter(reply: str, read: str | None) -> None:
    assert read_option(reply, ()) == read


def test_abstaining_brings_nothing_by_itself_and_a_little_more_than_guessing_by_captionqas_rule() -> None:
    # CaptionQA's qa.py: 1 / number of options + 0.05
    for count, points in ((2, 0.55), (3, 1 / 3 + 0.05), (4, 0.30), (5, 0.25), (9, 1 / 9 + 0.05), (10, 0.15)):
        asked = question(TEN[:count], "A")
        letter = LETTERS[count]
        assert Choice().score(asked, letter).points == 0
        for reply in (letter, "Cannot answer from the caption"):
            verdict = ChoiceOrAbstain().score(asked, reply)
            assert (verdict.points, verdict.read) == (pytest.approx(points), ABSTAINED)
        assert ChoiceOrAbstain().score(asked, "A").points == 1
        assert ChoiceOrAbstain().score(asked, "B").points == 0
        assert ChoiceOrAbstain().score(asked, "what?").points == 0


YES_NO = [
    # question, options, may abstain
    ("What colour is it?", ("red", "blue"), True),
    ("Is there a cat?", ("Yes", "No"), False),
    ("Which is it?", ("Yes", "No", "Both"), False),
    ("Does it rain?", ("A little", "A lot"), False),
    ("  are they red", ("red", "blue"), False),
    ("Island or sea?", ("island", "sea"), True),
    ("What is on the face?", ("Eyes", "Nose"), False),  # their rule looks for yes and no anywhere
    ("What is there?", ("snow", "rain"), True),
]


@pytest.mark.parametrize(("text", "options", "offered"), YES_NO)
def test_captionqa_offers_abstaining_but_with_yes_no_questions(
    text: str, options: tuple[str, ...], offered: bool
) -> None:
    asked = question(options, "A", text)
    assert may_abstain(asked) is offered
    points = ChoiceOrAbstain().score(asked, "Cannot answer from the caption").points
    assert points == pytest.approx((1 / len(options) + 0.05) * offered)


@pytest.mark.parametrize("gold", ["", "E", "AC", "cat", "1", " "])
@pytest.mark.parametrize("scorer", [Choice(), ChoiceOrAbstain()])
def test_a_gold_answer_that_is_no_letter_is_said(scorer: Choice | ChoiceOrAbstain, gold: str) -> None:
    with pytest.raises(ValueError, match="no letter from A to D"):
        scorer.check(question(gold=gold))


def test_what_cannot_be_scored_is_said_when_the_benchmark_is_loaded() -> None:
    Choice().check(question(gold="c"))
    Choice().check(question((), gold="J"))
    Choice().check(question(TEN, gold="J"))
    with pytest.raises(ValueError, match="no gold answer"):
        Choice().check(BenchmarkQuestion("q", "?", ANIMALS, ()))
    with pytest.raises(ValueError, match="from A to J"):
        Choice().check(question((), gold="K"))
    with pytest.raises(ValueError, match="use the scorer choice"):
        ChoiceOrAbstain().check(question(()))
    with pytest.raises(ValueError, match="18 options"):
        Choice().check(question(tuple(string.ascii_lowercase[:18])))


@given(reply=st.text(max_size=200), count=st.integers(0, 17))
def test_any_reply_is_read(reply: str, count: int) -> None:
    options = tuple(f"thing {number}" for number in range(count))
    read = read_option(reply, options)
    assert read is None or read == ABSTAINED or read in LETTERS[: count or 10]


@given(count=st.integers(1, 17), data=st.data())
def test_every_letter_is_read_as_itself_and_by_its_text(count: int, data: st.DataObject) -> None:
    options = tuple(f"thing {number}" for number in range(count))
    place = data.draw(st.integers(0, count - 1))
    for reply in (LETTERS[place], f"Answer: {LETTERS[place]}", f"({LETTERS[place].lower()})", options[place]):
        assert read_option(reply, options) == LETTERS[place]
        assert Choice().score(question(options, LETTERS[place]), reply).points == 1
    assert read_option(LETTERS[count], options) == ABSTAINED
