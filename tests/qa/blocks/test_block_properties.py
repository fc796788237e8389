"""What we write we read back; whatever else comes in, nothing breaks and nothing is lost."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from caprl_core.qa.blocks.block import DETAIL_CHARACTERS, TEXT_CHARACTERS, ParsedBlock, parse_block
from caprl_core.qa.blocks.imported import imported_questions
from caprl_core.qa.blocks.lines import Kind, classified
from caprl_core.qa.blocks.refusals import checked
from caprl_core.qa.blocks.render import render_block, render_question
from caprl_core.qa.blocks.wording import comparable
from caprl_core.qa.question import Question
from caprl_core.recipe.qa import ExtractRecipe

DRESS = "*_`✓✔✅☑√✗✘❌✖×"
"""Emphasis and marks of right and wrong at the end of a text are no part of it, so the format cannot carry them."""


def carried(line: str) -> bool:
    """A line that is plain text by itself, without emphasis at its ends and without an end of line in it."""
    return (
        classified(line).kind is Kind.TEXT
        and classified(line + "**").kind is Kind.TEXT  # a stem's last line
        and classified(line).raw == line
        and not any(end in line for end in "\r\n")
        and "**" not in line
        and line[0] not in DRESS
        and line[-1] not in DRESS + ")]）>\ufe0f"
        and "nswer" not in line
    )


LINES = st.text(min_size=1, max_size=40).map(lambda text: " ".join(text.replace("*", "·").split())).filter(carried)
STEMS = st.lists(LINES, min_size=1, max_size=4).map("\n".join)
OPTIONS = st.lists(
    st.lists(LINES, min_size=1, max_size=2).map("\n".join),
    min_size=2,
    max_size=6,
    unique_by=comparable,
)


@st.composite
def questions(draw: st.DrawFn) -> Question:
    options = draw(OPTIONS)
    return Question(draw(STEMS), tuple(options), draw(st.integers(0, len(options) - 1)))


WORDS = st.sampled_from(
    [
        *(
            "A) red",
            "B. blue",
            "(C) green",
            "- D) grey",
            "E: x",
            "1. What?",
            "2) two",
            "#### 3. **Who?**",
            "**4.**",
            "①",
        ),
        *(
            "Answer: B",
            "**Answer:**",
            "答案：Ｃ",
            "Answers:\n1. B",
            "Answer key: 1-A 2-B",
            "✅",
            "(correct)",
            "Ответ: Б",
            "A",
        ),
        *(
            "```",
            "------",
            "---",
            "[",
            "{",
            '{"question": "',
            '"options": [',
            "]}",
            "\n",
            "\n\n",
            "   ",
            "> ",
            "What is it?",
        ),
        *(
            "Options:",
            "Explanation: so",
            "А) да",
            "Б) нет",
            "ア）赤",
            "\\boxed{A}",
            "**",
            "_",
            "\ufeff",
            "\x00",
            "\ud800",
            "？",
        ),
    ]
)
SOUP = st.builds(
    str.join, st.sampled_from(["", " ", "\n"]), st.lists(st.one_of(WORDS, st.text(max_size=6)), max_size=40)
)


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


@given(st.lists(questions(), min_size=1, max_size=5))
def test_what_is_rendered_is_read_back_exactly(written: list[Question]) -> None:
    found = parse_block(render_block(written), cut=False)
    assert found.refused == ()
    assert [question for _, question in found.questions] == written
    assert [number for number, _ in found.questions] == list(range(1, len(written) + 1))


@given(st.lists(questions(), min_size=1, max_size=5))
def test_questions_survive_without_rules_between_them(written: list[Question]) -> None:
    text = "\n\n".join(render_question(question, number) for number, question in enumerate(written, 1))
    assert [question for _, question in parse_block(text, cut=False).questions] == written


@given(st.one_of(st.text(max_size=400), SOUP), st.booleans())
def test_arbitrary_text_breaks_nothing_and_is_accounted_for(text: str, cut: bool) -> None:
    found = parse_block(text, cut=cut)
    assert_sound(found)
    kept = checked(found, ExtractRecipe(max_questions=3))
    assert_sound(kept)
    assert len(kept.questions) <= 3
    assert len(kept.questions) + len(kept.refused) == len(found.questions) + len(found.refused)


@given(st.lists(questions(), min_size=2, max_size=5), st.data())
def test_a_mutated_block_loses_no_question(written: list[Question], data: st.DataObject) -> None:
    """Lines are deleted, doubled or swapped, and characters put in, anywhere but in numbered first lines."""
    pieces = []
    for number, question in enumerate(written, 1):
        first, *rest = render_question(question, number).split("\n")
        for _ in range(data.draw(st.integers(1, 4))):
            place = data.draw(st.integers(0, max(0, len(rest) - 1)))
            change = data.draw(st.sampled_from(["delete", "double", "swap", "insert"]))
            if change == "delete" and rest:
                del rest[place]
            elif change == "double" and rest:
                rest.insert(place, rest[place])
            elif change == "swap" and rest:
                rest[0], rest[place] = rest[place], rest[0]
            elif rest:
                at = data.draw(st.integers(0, len(rest[place])))
                rest[place] = rest[place][:at] + data.draw(st.text("abA)(.:*# 1", max_size=4)) + rest[place][at:]
        pieces.append("\n".join([first, *rest]))
    found = parse_block("\n------\n".join(pieces), cut=False)
    assert_sound(found)
    assert len(found.questions) + len(found.refused) >= len(written)


@given(st.lists(questions(), min_size=1, max_size=4), st.data())
def test_a_cut_anywhere_costs_at_most_the_last_question(written: list[Question], data: st.DataObject) -> None:
    whole = render_block(written)
    found = parse_block(whole[: data.draw(st.integers(1, len(whole)))], cut=True)
    assert_sound(found)
    reasons = [item.reason.value for item in found.refused]
    assert reasons in ([], ["cut"])
    read = [question for _, question in found.questions]
    # A last option or stem cannot be cut and complete at once: its answer stands behind it.
    assert read == written[: len(read)]


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=8)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.sampled_from(["question", "options", "choices", "answer", "answer_index", "A", "B"]), inner),
    ),
    max_leaves=20,
)


@given(st.lists(JSON, max_size=6))
def test_imported_lists_of_anything_give_one_entry_an_item(items: list[Any]) -> None:
    found = imported_questions(items)
    assert len(found.questions) + len(found.refused) == len(items)


@given(JSON, st.text(max_size=10), st.text(max_size=10), st.booleans())
def test_json_of_any_shape_breaks_nothing(value: Any, before: str, after: str, cut: bool) -> None:
    assert_sound(parse_block(before + json.dumps(value) + after, cut=cut))


@given(st.lists(questions(), min_size=1, max_size=5))
def test_json_lists_carry_questions_of_any_text(written: list[Question]) -> None:
    items = [
        {"question": one.stem, "options": list(one.options), "answer": f"{one.answer}) {one.gold_text}"}
        for one in written
    ]
    found = imported_questions(items)
    assert [question for _, question in found.questions] == written
