"""Option labels in several scripts: `A`, `b`, `3`, `Г`, `Ⓒ`, `iv`; the series tells which places they stand for."""
# ruff: noqa: RUF001 - letters and punctuation of other scripts are meant

import re
import unicodedata
from collections.abc import Sequence

FAMILIES: tuple[tuple[str, ...], ...] = (
    tuple("abcdefghi"),
    tuple("123456789"),
    tuple("абвгдежз"),
    ("i", "ii", "iii", "iv", "v", "vi"),
    tuple("αβγδεζ"),
    tuple("甲乙丙丁戊己"),
    tuple("アイウエオカ"),
    tuple("가나다라마바"),
    tuple("ㄱㄴㄷㄹㅁㅂ"),
    tuple("אבגדהו"),
    ("أ", "ب", "ج", "د", "ه", "و"),
    tuple("कखगघङच"),
)
"""Series of labels as people write them, lower case; the first that explains all labels of a question wins."""

_LATIN_TWINS = str.maketrans("авсеαβ", "abceab")
"""Letters of other alphabets that look like A, B, C or E: models mix them into Latin series."""

_EXTRA = "ＡＢＣＤＥＦＧＨＩａｂｃｄｅｆｇｈｉＣСс" + "ⒶⒷⒸⒹⒺⒻⓐⓑⓒⓓⓔⓕ" + "１２３４５６７８９"
_SINGLE = {letter for family in FAMILIES for label in family if len(label) == 1 for letter in (label, label.upper())}
ROMAN = "iii|ii|iv|vi|III|II|IV|VI"
LABEL = f"(?:{ROMAN}|[{''.join(sorted(_SINGLE | set(_EXTRA)))}])"
"""Pattern of one label."""
CIRCLED = "①②③④⑤⑥⑦⑧⑨"
LATIN = "A-Ia-iＡ-Ｉａ-ｉ"
"""Latin letters, full-width ones too, for use within a character class."""

_IS_LABEL = re.compile(f"{LABEL}|[{CIRCLED}]")


def is_label(text: str) -> bool:
    """True when the whole text is one label."""
    return _IS_LABEL.fullmatch(text) is not None


def folded(label: str) -> str:
    """Full-width, circled and capital labels as plain lower-case ones."""
    # The Arabic alif with hamza must stay composed, as NFKC leaves it.
    return unicodedata.normalize("NFKC", label).casefold().strip()


def latin(label: str) -> str:
    """A folded label with look-alikes of Latin letters replaced by them."""
    return folded(label).translate(_LATIN_TWINS)


def places(label: str) -> set[int]:
    """Places, counted from 0, that a label can stand for in some series; empty for what is no label."""
    own, twin = folded(label), latin(label)
    found = {family.index(own) for family in FAMILIES if own in family}
    return found | ({FAMILIES[0].index(twin)} if twin in FAMILIES[0] else set())


def is_first(label: str) -> bool:
    """True for the first label of any series."""
    return 0 in places(label)


def follows(label: str, before: str) -> bool:
    """True when some series has `label` right after `before`."""
    return any(place + 1 in places(label) for place in places(before))


class Labels:
    """The labels of one question's options, and what a label in its answer stands for."""

    def __init__(self, labels: Sequence[str]) -> None:
        """No labels (all empty) are read as A, B, C … in order."""
        self._labels = list(labels) if any(labels) else list("abcdefghi"[: len(labels)])
        self._twins = False
        own = [folded(label) for label in self._labels]
        twins = [latin(label) for label in self._labels]
        self._family = FAMILIES[0]
        explaining = [(family, own) for family in FAMILIES if all(label in family for label in own)]
        if all(label in FAMILIES[0] for label in twins):
            explaining.append((FAMILIES[0], twins))
        for family, read in sorted(explaining, key=lambda pair: list(pair[0][: len(own)]) != pair[1]):
            self._family, self._labels = family, read
            break
        else:
            self._labels = own

    @property
    def distinct(self) -> bool:
        """False when two options bear the same label."""
        return len(set(self._labels)) == len(self._labels)

    def position(self, label: str) -> int | None:
        """Position of the option that bears this label; None if none does."""
        wanted = latin(label) if self._family is FAMILIES[0] else folded(label)
        return self._labels.index(wanted) if wanted in self._labels else None
