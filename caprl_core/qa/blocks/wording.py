"""How texts of questions are compared, and how their markdown dress is taken off."""
# ruff: noqa: RUF001 - letters and punctuation of other scripts are meant

import unicodedata

_MARKS = ("**", "__", "*", "_", "`")
_ENDINGS = " .。．!！?？;；,，:："
_QUOTES = ('""', "''", "``", "$$", "<>", "“”", "‘’", "「」", "『』", "«»")
UNSEEN = "\ufeff\u200b\u2060"
"""Characters without ink or width that editors and models leave at the ends of lines; `str.strip` keeps them."""


def stripped(text: str) -> str:
    """Without white space and unseen characters at both ends."""
    return text.strip().strip(UNSEEN).strip()


def comparable(text: str) -> str:
    """The form in which texts are compared: compatibility characters, case and white space make no difference."""
    # Folding can make characters that normalise further (and the other way round), hence twice.
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return " ".join(folded.split())


def without_ending(text: str) -> str:
    """`text` without the punctuation at its end; a text of nothing else stays."""
    return text.rstrip(_ENDINGS) or text


def unwrapped(text: str) -> str:
    """Without emphasis or back-ticks around the whole text, and without half of a pair at either end."""
    text = stripped(text)
    for _ in range(3):
        before = text
        for mark in _MARKS:
            if text.startswith(mark) and text.endswith(mark) and len(text) > 2 * len(mark):
                inner = text[len(mark) : -len(mark)]
                text = text if mark in inner else stripped(inner)
        if text == before:
            break
    if text.count("**") == 1 and len(text) > 2:
        text = stripped(text[:-2] if text.endswith("**") else text.removeprefix("**"))
    return text


def unquoted(text: str) -> str:
    """Without one pair of quotes, dollar signs or angle brackets around the whole text."""
    dressed = len(text) > 2 and text[0] + text[-1] in _QUOTES
    return text[1:-1].strip() if dressed else text


def bare(text: str) -> str:
    """The comparable form without quotes, emphasis and final punctuation: what a text says, however it is dressed."""
    return without_ending(unquoted(without_ending(comparable(unwrapped(text)))))


def excerpt(text: str, characters: int) -> str:
    """The beginning of `text`, at most so many characters, without white space at its ends."""
    return text.strip()[:characters].rstrip()
