"""What we write we read back; whatever else comes in, nothing breaks and nothing is lost."""

import json
import struct
from math import isnan
from typing import Any

from hypothesis import example, given, note
from hypothesis import strategies as st

from caprl_core.qa.blocks.block import DETAIL_CHARACTERS, TEXT_CHARACTERS, ParsedBlock, parse_block
from caprl_core.qa.blocks.imported import imported_questions
from caprl_core.qa.blocks.refusals import checked
from caprl_core.qa.blocks.render import render_block, render_question
from caprl_core.qa.question import Question
from caprl_core.recipe.qa import ExtractRecipe
from support.drawn_questions import questions
from support.pen import Pen, drawn

WRITTEN = drawn(lambda pen: questions(pen, 1, 5))

WORDS = (
    *("A) red", "B. blue", "(C) green", "- D) grey", "E: x", "1. What?", "2) two", "#### 3. **Who?**", "**4.**"),
    *("Answer: B", "**Answer:**", "答案：Ｃ", "Answers:\n1. B", "Answer key: 1-A 2-B", "Ответ: Б", "A", "①", "✅"),
    *("```", "------", "---", "[", "{", '{"question": "', '"options": [', "]}", "\n", "\n\n", "   ", "> ", "？"),
    *("Options:", "Explanation: so", "А) да", "Б) нет", "ア）赤", "\\boxed{A}", "**", "_", "\ufeff", "\x00", "\ud800"),
    *("What is it?", "(correct)"),
)
ARBITRARY = drawn(lambda pen: pen.text(400) if pen.below(2) else pen.soup(WORDS, 40))


def mutated(pen: Pen) -> tuple[int, str]:
    """How many questions, and their block with lines deleted, doubled or swapped, and characters put in, anywhere but
    in numbered first lines."""
    changes = pen.apart(200)
    written = questions(pen, 2, 5)
    pieces = []
    for number, question in enumerate(written, 1):
        first, *rest = render_question(question, number).split("\n")
        for _ in range(changes.between(1, 4)):
            change = changes.one_of(("delete", "double", "swap", "insert"))
            if not rest:
                continue
            place = changes.below(len(rest))
            if change == "delete":
                del rest[place]
            elif change == "double":
                rest.insert(place, rest[place])
            elif change == "swap":
                rest[0], rest[place] = rest[place], rest[0]
            else:
                at = changes.below(len(rest[place]) + 1)
                put_in = "".join(changes.one_of("abA)(.:*# 1") for _ in range(changes.below(5)))
                rest[place] = rest[place][:at] + put_in + rest[place][at:]
        pieces.append("\n".join([first, *rest]))
    return len(written), "\n------\n".join(pieces)


def cut_short(pen: Pen) -> tuple[list[Question], str]:
    """Questions, and the beginning of their block."""
    place = pen.below(65536)
    written = questions(pen, 1, 4)
    whole = render_block(written)
    return written, whole[: 1 + place * len(whole) // 65536]


KEYS = ("question", "options", "choices", "answer", "answer_index", "A", "B")


def json_value(pen: Pen, depth: int = 3) -> Any:
    """Anything that JSON can say, lists and objects nested so deep; objects have keys of questions, some all."""
    kind = pen.below(12 if depth else 7)
    if kind >= 7:
        inner = [json_value(pen, depth - 1) for _ in range(pen.below(5))]
        if kind < 9:
            return inner
        if kind < 11:
            return {pen.one_of(KEYS): value for value in inner}
        return {"question": pen.text(8), pen.one_of(KEYS[1:3]): inner, pen.one_of(KEYS[3:5]): json_value(pen, 0)}
    if kind >= 4:
        return pen.one_of(WORDS) if kind == 4 else pen.text(8)
    if kind == 3:
        number = struct.unpack("d", struct.pack("q", pen.number(8)))[0]
        return 0.5 if isnan(number) else number
    return pen.number(pen.one_of((1, 8, 20))) if kind == 2 else pen.one_of((None, True, False))


def assert_sound(found: ParsedBlock) -> None:
    numbers = sorted([number for number, _ in found.questions] + [item.number for item in found.refused])
    assert numbers == list(range(1, len(numbers) + 1))
    assert numbers, "a block gives questions or reasons"
    for item in found.refused:
        assert len(item.text) <= TEXT_CHARACTERS
        assert len(item.detail) <= DETAIL_CHARACTERS
    for _, question in found.questions:
        assert question.stem
        assert all(question.options)


GENERALS = Question("Who surrendered?", ("Ulysses S. Grant", "George Meade", "John Bell Hood", "Robert E. Lee"), 3)
"""The initial of the last one is no further option."""


@given(WRITTEN)
@example([GENERALS])
def test_what_is_rendered_is_read_back_exactly(written: list[Question]) -> None:
    found = parse_block(render_block(written), cut=False)
    assert found.refused == ()
    assert [question for _, question in found.questions] == written
    assert [number for number, _ in found.questions] == list(range(1, len(written) + 1))


@given(WRITTEN)
def test_questions_survive_without_rules_between_them(written: list[Question]) -> None:
    text = "\n\n".join(render_question(question, number) for number, question in enumerate(written, 1))
    assert [question for _, question in parse_block(text, cut=False).questions] == written


@given(ARBITRARY, st.booleans())
def test_arbitrary_text_breaks_nothing_and_is_accounted_for(text: str, cut: bool) -> None:
    found = parse_block(text, cut=cut)
    assert_sound(found)
    kept = checked(found, ExtractRecipe(max_questions=3))
    assert_sound(kept)
    assert len(kept.questions) <= 3
    assert len(kept.questions) + len(kept.refused) == len(found.questions) + len(found.refused)


@given(drawn(mutated))
def test_a_mutated_block_loses_no_question(block: tuple[int, str]) -> None:
    written, text = block
    found = parse_block(text, cut=False)
    assert_sound(found)
    assert len(found.questions) + len(found.refused) >= written


BEGUN = "#### 1. **Which car is red?**\n   - A) the left one\n"


@given(drawn(cut_short))
@example(([], f"{BEGUN}   - B) the right one ✓"))  # a third option was to come
@example(([], f"{BEGUN}   - B) a sign with the text\n---"))  # ends or not: a rule, or the second line
@example(([], f"{BEGUN}   - B) a clock\n10:"))  # a question 10, or the beginning of `10:30`
def test_a_cut_anywhere_costs_at_most_the_last_question(block: tuple[list[Question], str]) -> None:
    written, text = block
    found = parse_block(text, cut=True)
    assert_sound(found)
    reasons = [item.reason.value for item in found.refused]
    assert reasons in ([], ["cut"])
    read = [question for _, question in found.questions]
    # A last option or stem cannot be cut and complete at once: its answer stands behind it.
    assert read == written[: len(read)]


@given(drawn(lambda pen: [json_value(pen) for _ in range(pen.below(7))]))
def test_imported_lists_of_anything_give_one_entry_an_item(items: list[Any]) -> None:
    found = imported_questions(items)
    assert len(found.questions) + len(found.refused) == len(items)


@given(drawn(lambda pen: pen.text(10) + json.dumps(json_value(pen)) + pen.text(10)), st.booleans())
def test_json_of_any_shape_breaks_nothing(text: str, cut: bool) -> None:
    assert_sound(parse_block(text, cut=cut))


@given(WRITTEN)
def test_json_lists_carry_questions_of_any_text(written: list[Question]) -> None:
    items = [
        {"question": one.stem, "options": list(one.options), "answer": f"{one.answer}) {one.gold_text}"}
        for one in written
    ]
    note(json.dumps(items))
    found = imported_questions(items)
    assert [question for _, question in found.questions] == written
