"""What a caption says that the one before it did not, word by word."""

import re
from collections import Counter
from difflib import SequenceMatcher
from typing import Final

from caprl_core.report.markup import Html, escaped, joined

_WORD: Final = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W_]+(?:['\u2019-][^\W_]+)*")
"""A word; of writing without spaces between words, a character."""
_SMALL: Final = {"a", "an", "and", "are", "at", "in", "is", "it", "its", "of", "on", "or", "that", "the", "there"} | {
    *("this", "to", "with")
}
"""They state nothing: they are marked between two words that are new, and nowhere else."""


def with_new_words(caption: str, before: str | None) -> Html:
    """The caption, with the words marked that occur oftener in it than in `before`; none where there is no `before`.

    Words that only changed their places are not new. Of a word that comes once more than before, the one is new that
    stands where the captions differ.
    """
    words = list(_WORD.finditer(caption))
    new = _new(words, before) if before is not None else [False] * len(words)
    parts, at, place = [], 0, 0
    while place < len(words):
        if not new[place]:
            place += 1
            continue
        first = place
        while (
            place + 1 < len(words)
            and new[place + 1]
            and not caption[words[place].end() : words[place + 1].start()].strip()
        ):
            place += 1
        start, end = words[first].start(), words[place].end()
        parts += [escaped(caption[at:start]), Html(f"<mark>{escaped(caption[start:end])}</mark>")]
        at = end
        place += 1
    return joined([*parts, escaped(caption[at:])], "")


def _touch(word: re.Match[str], following: re.Match[str]) -> bool:
    return not word.string[word.end() : following.start()].strip()


def _new(words: list[re.Match[str]], before: str) -> list[bool]:
    had = [match[0].casefold() for match in _WORD.finditer(before)]
    has = [match[0].casefold() for match in words]
    added: set[int] = set()
    for kind, _, _, start, end in SequenceMatcher(a=had, b=has).get_opcodes():
        if kind in {"insert", "replace"}:
            added.update(range(start, end))
    more = Counter(has)
    more.subtract(had)  # what only moved is not new
    new: list[bool | None] = []
    for place, word in enumerate(has):
        found = place in added and more[word] > 0
        more[word] -= found
        new.append(found if word not in _SMALL else None)
    ahead = False
    following = []  # whether the next word that states something is new
    for one in reversed(new):
        following.append(ahead)
        ahead = ahead if one is None else one
    decided: list[bool] = []
    for place, (one, ahead) in enumerate(zip(new, reversed(following), strict=True)):
        beside = place > 0 and decided[-1] and _touch(words[place - 1], words[place])
        decided.append(one if one is not None else ahead and beside)
    return decided
