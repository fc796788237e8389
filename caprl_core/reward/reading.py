"""What a reader is asked, and what its reply says: a letter, an abstention, or nothing that can be read."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from caprl_core.qa.blocks.wording import excerpt
from caprl_core.qa.letters import read_letter
from caprl_core.qa.question import LETTERS, Question
from caprl_core.qa.rotation import EXTRA, Order
from caprl_core.recipe.models import PromptRecipe
from caprl_core.recipe.reward import CAPTION, QUESTION

Outcome = Literal["right", "wrong", "abstained", "unread", "failed"]
"""`unread`: a reply that names no option and abstains in no way we know. `failed`: no reply, so no outcome at all."""

REPLY_CHARACTERS = 80
"""Of a reply so much is kept to look at: 10 tokens seldom have more."""

_ABSTAINS = re.compile(
    r"\W{0,9}(?:sorry\W{1,3})?(?:(?:i|we|it|this|that|one|the\s(?:question|answer))\s)?(?:is\s)?"
    r"(?:(?:can\s?not|can['\u2019]?t|could\snot|couldn['\u2019]t|unable\sto|not\sable\sto|impossible\sto)\s(?:be\s)?"
    r"(?:answer|determine|tell|known?\b|say|infer|decide|choose|conclude|identify)"
    r"|(?:do\snot|don['\u2019]t)\sknow|not\s(?:mentioned|stated|specified|described|given|clear|known|enough|possible)"
    r"|unknown\b|unanswerable\b|unclear\b|insufficient\b|no\s(?:information|answer)\b"
    r"|(?:the\s)?(?:caption|description|text)\s(?:does\snot|doesn['\u2019]t)\s"
    r"|\u65e0\u6cd5|\u4e0d\u80fd\u786e\u5b9a|\u672a\u63d0\u53ca|\u6ca1\u6709\u63d0)",
    re.IGNORECASE,
)
"""How replies that decline to answer begin, in English and Chinese. Only the beginning counts, and only of a reply that
names no option."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What a reply says. letter: the option it names; abstained: it names none and declines; reply: its beginning."""

    letter: str | None
    abstained: bool
    reply: str


class ReaderPrompt(NamedTuple):
    """A reader's prompt taken apart: `before` caption `between` question `after`."""

    before: str
    between: str
    after: str

    def text(self, caption: str, question: str) -> str:
        """The user's text. What caption and question contain is never taken for a place of the template."""
        return f"{self.before}{caption}{self.between}{question}{self.after}"


def reader_prompt(prompt: PromptRecipe) -> ReaderPrompt:
    """The parts of a prompt that `ReaderRecipe` has accepted."""
    before, _, rest = prompt.text.partition(CAPTION)
    between, _, after = rest.partition(QUESTION)
    return ReaderPrompt(before, between, after)


def read_reply(reply: str, options: Sequence[str]) -> Reading:
    """Total: whatever a model says. `options` are the texts as shown, A first, an abstaining one included.

    Strict: "Can not answer" is an abstention, never option C.
    """
    kept = excerpt(reply, REPLY_CHARACTERS)
    # Most replies are one letter, and the general reading takes 40 us: 0.3 s of the event loop a step of 8,192.
    if len(kept) == 1 and kept in LETTERS[: len(options)]:
        return Reading(kept, abstained=False, reply=kept)
    letter = read_letter(reply, options)
    return Reading(letter, letter is None and _ABSTAINS.match(kept) is not None, kept)


def outcome_of(reading: Reading | None, question: Question, order: Order) -> Outcome:
    """What a reading of the options in `order` is worth; None is a request that failed."""
    if reading is None:
        return "failed"
    if reading.letter is None:
        return "abstained" if reading.abstained else "unread"
    named = order[LETTERS.index(reading.letter)]
    if named == EXTRA:
        return "abstained"
    return "right" if named == question.gold else "wrong"
