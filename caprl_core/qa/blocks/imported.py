"""Questions of the released files: step-2 lists (`question` with its option lines, `answer`) and CapRL-QA-75K."""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from caprl_core.qa.blocks.block import Entry, ParsedBlock, parsed
from caprl_core.qa.blocks.drafts import Draft, settled
from caprl_core.qa.blocks.gold import Fault
from caprl_core.qa.blocks.json_block import draft_of, source_of
from caprl_core.qa.blocks.labels import is_label
from caprl_core.qa.blocks.wording import comparable, without_ending

_ABSTAINING = re.compile(r"can ?not answer based on the caption")
"""Text of an option that some released files carry (fact sheet 1.2): it belongs to the reward, not to the question."""


def imported_questions(items: Sequence[Any]) -> ParsedBlock:
    """Every item as a question or a refusal, numbered by its place; `A)` and `A.` before choices are taken off."""
    entries = [
        Entry(settled(drafted) if isinstance(drafted := _draft(item), Draft) else drafted, source_of(item))
        for item in items
    ]
    return parsed(entries)


def _draft(item: Any) -> Draft | Fault:
    draft = draft_of(item)
    if isinstance(draft, Fault):
        return draft
    options = tuple(
        option for option in draft.options if not _ABSTAINING.fullmatch(without_ending(comparable(option.text)))
    )
    # A stored answer is a letter by its format: no doubt arises where another option's text is that letter.
    answers = tuple(f"({answer.strip()})" if is_label(answer.strip()) else answer for answer in draft.answers)
    return replace(draft, options=options, answers=answers)
