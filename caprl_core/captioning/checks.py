"""Is this reply a caption? Pure, total functions from text to a verdict; cheap enough to run on every reply."""

import re
import unicodedata
from collections import Counter

_REFUSAL = re.compile(
    r"^\W*(?:i'?m (?:really |very |so )?sorry|i am sorry|sorry[,.!]? (?:but )?i|unfortunately[,]? i (?:can|am)|"
    r"i (?:can ?not|can't|am unable to|am not able to|won't|'m unable to|'m not able to)"
    r" (?:assist|help|describe|provide|see|view|process|analy[sz]e|identify|comply|fulfil|do|answer|access)|"
    r"i'm (?:unable|not able) to|as an ai\b|as a (?:large )?language model|很抱歉|抱歉|对不起|我无法)",
    re.IGNORECASE,
)
"""Only the opening of a reply counts: a caption may quote a sign that says sorry."""

_CONTROL = re.compile(
    r"<\|[a-z0-9_]{2,40}\|>|<(?:/?s|bos|eos|pad|unk|image|IMG_CONTEXT|start_of_turn|end_of_turn)>|\[/?INST\]"
)
"""Tokens of the usual chat templates; none of them is ever part of a caption."""

NGRAM_WORDS = 6
"""Window of the repetition check. Lists repeat two or three words ("a red car, a blue car"); six are a loop."""
REPEATED_SHARE = 0.5
"""A reply loops when more than this share of its word windows stand elsewhere in it."""
MIN_WINDOWS = 24
"""Shorter replies are not judged by windows: too few to tell a loop from a list."""
TAIL_UNIT = 200
TAIL_REPEATS = 5
TAIL_CHARACTERS = 60
"""Or when its end is one unit of up to 200 characters, at least 5 times in a row, over at least 60 characters."""


def visible_characters(text: str) -> int:
    """Characters that leave ink: no white space, no control or format characters."""
    return sum(1 for character in text if unicodedata.category(character)[0] not in "ZC")


def is_refusal(text: str) -> bool:
    """True when the reply opens by declining the task."""
    return _REFUSAL.match(text.lstrip()[:200].replace("\u2019", "'")) is not None


def leaks_prompt(text: str, prompt: str) -> bool:
    """True when the reply holds chat-template tokens, or opens with the prompt itself."""
    if _CONTROL.search(text):
        return True
    opening = " ".join(text[: 2 * len(prompt) + 40].split()).casefold()
    wanted = " ".join(prompt.split()).casefold()
    return len(wanted) >= 12 and opening.startswith(wanted)


def is_repetitive(text: str) -> bool:
    """True when the reply loops: a repeated tail, or mostly word windows that occur more than once."""
    end = text.rstrip()
    for length in range(1, TAIL_UNIT + 1):
        unit = end[-length:]
        # At most 1,000 characters are compared: a hostile reply costs 0.1 ms, a backtracking pattern cost it 400 ms.
        if end.endswith(unit * max(TAIL_REPEATS, -(-TAIL_CHARACTERS // length))) and visible_characters(unit):
            return True
    words = text.split()
    windows = Counter(tuple(words[i : i + NGRAM_WORDS]) for i in range(len(words) - NGRAM_WORDS + 1))
    total = sum(windows.values())
    repeated = sum(count for count in windows.values() if count > 1)
    return total >= MIN_WINDOWS and repeated > REPEATED_SHARE * total


def script_share(text: str, script: str) -> float:
    """Share of the letters that belong to a script, `latin` or `cjk`; 1 for a text without letters."""
    letters = [character for character in text if character.isalpha()]
    if not letters:
        return 1.0
    return sum(_script_of(letter) == script for letter in letters) / len(letters)


def _script_of(letter: str) -> str:
    code = ord(letter)
    if code < 0x250 or 0x1E00 <= code < 0x1F00:
        return "latin"
    if 0x2E80 <= code < 0xA000 or 0xAC00 <= code < 0xD7B0 or 0xF900 <= code < 0xFB00 or 0x20000 <= code < 0x32000:
        return "cjk"
    return "other"
