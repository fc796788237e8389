"""Writes questions as a block in the released format, which `block.parse_block` reads back."""

from collections.abc import Iterable

from caprl_core.qa.question import LETTERS, Question


def render_question(question: Question, number: int) -> str:
    """One question: numbered bold stem, lettered options, blank line, answer by letter and text.

    Lines of a stem or option that look like a line of the format (`A) …`, `Answer: …`, `---`) are not escaped, since
    the format knows no escapes: such a question does not come back as it was.
    """
    options = [f"   - {LETTERS[place]}) {option}" for place, option in enumerate(question.options)]
    answer = f"**Answer:** {question.answer}) {' '.join(question.gold_text.split())}"
    return "\n".join([f"#### {number}. **{question.stem}**", *options, "", answer])


def render_block(questions: Iterable[Question]) -> str:
    """Questions numbered from 1, each followed by a rule; empty for none."""
    return "".join(f"{render_question(question, number)}\n------\n" for number, question in enumerate(questions, 1))
