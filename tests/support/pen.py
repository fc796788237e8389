"""Texts and choices made from one draw of bytes: drawing them one by one costs several times what a parser does."""

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from hypothesis import strategies as st

T = TypeVar("T")

BYTES = 800
"""Nine of ten blocks of one to five questions take fewer (450 is the median); the others end in the simplest texts."""

PLAIN = "abcdefghijklmnopqrstuvwxyz ABCDEFGHIJKLMNOPQRSTUVWXYZ 0123456789 .,;:?!'-äöüéñłşçøåïß"
MARKS = "ab A1.):*#(_`>-–—=~|/\\[]{}<>$\"'+&?B:2)c.D C3 •·"
HARD = (
    "a\t\v\f\x1c\x1f\x85\xa0\u1680\u2003\u2028\u2029\u202f\u3000\n\r\x00\x07\x1b\x7f"  # white space, controls
    "\ufeff\u200b\u2060\u200d\ufe0f\xad\u034f\u200f\u202e\u2066\u061c"  # without ink, turning the direction
    "אבגدهوأب،؟؛"  # right to left
    "\u0301\u0308\u0327\u0323\u20dd\u0e33ี\u093f"  # combining
    "ﷺﬁ½①⑨Ⓐⓑ㈠㍿™ª²﹙﹖ẛΐŉİıſςßẞKÅΩ"  # changed by NFKC or by case folding
    "АВСЕавсеΑΒαβ甲乙アイ가나ㄱㄴкगखГБ"  # labels, and letters that look like Latin ones
    "ＡＢａｂ１２：．，？！（）【】［］、。；「」『』“”‘’«»"  # full width, brackets, quotes
    "✓✔✅☑√✗✘❌✖×👉○●▪◦–—…"
    "😀𝐀𝟏🄰🅐👩🇩\U0001f3fd\U000e0041\U0010ffff𠀀𝄞𞤀"  # beyond 16 bits
    "\ud800\udbff\udc00\udfff\uffff\ufdd0\ue000"  # halves of pairs, no characters
    "٣३௧⁵㊂一二十第题問选項答案"
    "*_`#>|\\{}[]()$<&;:.,?!\"'-~=+/0ABCDabcd19"
)
"""Characters that parsers stumble over."""
WORDS = (
    *("red ", "blue ", "cat ", "the ", "What ", "is ", "it? ", "two ", "A ", "I ", "b ", "C. ", "3 ", "no ", "of "),
    *("all of the above ", "option B ", "the caption ", "and ", "or ", "(left) ", "10:30 ", "a) ", "B: ", "1. "),
    *("дом ", "ответ ", "選擇 ", "что? ", "بيت ", "집 ", "\u00e9", "e\u0301", "\U0001f468\u200d\U0001f467 ", "Q "),
    *("https://a.b/c?d=e#f ", "x = y ", "$5 ", "\\n ", "{0} ", "%s ", "`x` ", "*so* ", "\\frac{1}{2} ", "<b> "),
    *("e.g. ", "No. ", "&amp; ", "---", "__"),
)


def table(entries: Iterable[str]) -> tuple[str, ...]:
    """256 entries, repeated in turn: a byte chooses one."""
    found = tuple(entries)
    return tuple(found[place % len(found)] for place in range(256))


TABLES = tuple(map(table, (PLAIN, MARKS, HARD, WORDS)))


class Pen:
    """Chooses by the bytes it is given; where they end it takes the first of everything.

    So fewer and smaller bytes make shorter and plainer texts, which is how Hypothesis shrinks them.
    """

    def __init__(self, choices: bytes) -> None:
        self._choices = choices
        self._at = 0

    def _taken(self, count: int) -> bytes:
        self._at += count
        return self._choices[self._at - count : self._at]

    def apart(self, size: int) -> "Pen":
        """Another pen, with the next so many bytes: for choices that must not run out because texts were long."""
        return Pen(self._taken(size))

    def below(self, limit: int) -> int:
        """0 to `limit` - 1."""
        return int.from_bytes(self._taken(((limit - 1).bit_length() + 7) // 8)) % limit

    def between(self, least: int, most: int) -> int:
        """`least` to `most`."""
        return least + self.below(most - least + 1)

    def one_of(self, entries: Sequence[T]) -> T:
        """One of the entries, the first if the bytes have run out."""
        return entries[self.below(len(entries))]

    def number(self, size: int) -> int:
        """A whole number of so many bytes, with sign."""
        return int.from_bytes(self._taken(size), signed=True)

    def text(self, most: int) -> str:
        """0 to `most` characters, more often few, in runs of one kind: plain, marks, hard, words or any code points."""
        wanted = self.below(self.below(most + 1) + 1)
        text = ""
        while len(text) < wanted:
            kind = self.below(len(TABLES) + 1)
            count = self.between(1, wanted - len(text))
            if kind < len(TABLES):
                chosen = self._taken(count)
                text += "".join(map(TABLES[kind].__getitem__, chosen)) + "a" * (count - len(chosen))
            else:
                text += "".join(chr(self.below(self.one_of((0x80, 0x800, 0x10000, 0x110000)))) for _ in range(count))
        return text[:wanted]

    def some_text(self, most: int) -> str:
        """1 to `most` characters."""
        return self.text(most) or "a"

    def soup(self, words: Sequence[str], most: int) -> str:
        """0 to `most` of the words and of short texts, side by side, on one line or one a line."""
        glue = self.one_of(("", " ", "\n"))
        parts = (self.one_of(words) if self.below(2) else self.text(6) for _ in range(self.below(most + 1)))
        return glue.join(parts)


def drawn(make: Callable[[Pen], T], size: int = BYTES) -> st.SearchStrategy[T]:
    """What `make` writes with a pen of 0 to so many bytes, in three of four cases all of them."""

    @st.composite
    def written(draw: st.DrawFn) -> T:
        count = min(size, draw(st.integers(0, 4 * size)))
        # Of a fixed size: Hypothesis chooses other sizes byte by byte, mostly small ones.
        return make(Pen(draw(st.binary(min_size=count, max_size=count))))

    return written()
