"""What kind of question a question is, by the word it asks with."""

import re
from collections.abc import Sequence

_ASKING = {
    **{word: word for word in ("what", "which", "where", "who", "when", "why", "how")},
    "whose": "who",
    "whom": "who",
    **dict.fromkeys(("is", "are", "was", "were", "does", "do", "did", "can", "could", "has", "have", "will"), "is"),
}
_QUANTITIES = {("how", "many"): "how many", ("how", "much"): "how much"}
_ANYWHERE = re.compile(r"\b(how\s+(?:many|much)|what|which|where|who|whose|whom|when|why|how)\b", re.IGNORECASE)
HEAD_CHARACTERS = 300
"""The word that asks stands near the beginning; more of a hostile stem is not looked at."""


def question_type(stem: str, options: Sequence[str]) -> str:
    """`what`, `which`, `where`, `who`, `when`, `why`, `how`, `how many`, `how much`, `is` (yes or no), or, for stems
    that ask in other words or another language, `number` (every option begins with a digit) or `other`.

    The first word decides; if it asks nothing ("In the chart, which …"), the first one that does.
    """
    head = stem[:HEAD_CHARACTERS].lower()
    first, second, *_ = (*head.split(None, 2)[:2], "", "")
    if (first, second) in _QUANTITIES:
        return _QUANTITIES[first, second]
    if first in _ASKING:
        return _ASKING[first]
    if found := _ANYWHERE.search(head):
        word = " ".join(found[1].split())
        return _ASKING.get(word, word)
    return "number" if options and all(option[:1].isdigit() for option in options) else "other"
