"""Scorer `math`: the answer is mathematically the gold answer, by math-verify (github.com/huggingface/Math-Verify).

What math-verify does with words is not mathematics: it reads `arm` as a*r*m, which is the same as `ram`. So a gold
answer of words (three letters or more, no function's name) is compared as `match` does, and never by math-verify.
"""

import re

from caprl_core.prism.question import BenchmarkQuestion
from caprl_core.prism.scorers.equivalence import MAX_CHARACTERS, equivalent, reads
from caprl_core.prism.scorers.latex import as_text
from caprl_core.prism.scorers.match import check_not_empty, matches
from caprl_core.prism.scorers.reply import find_answer
from caprl_core.prism.scorers.verdict import Verdict

_WORDS = re.compile(r"(?=[^\d]*[^\W\d_]{3})[^\W\d_]+(?:[\s,'\u2019-]+[^\W\d_]+){0,40}[.!]?")
_FUNCTIONS = re.compile(r"\b(?:arc)?(?:sin|cos|tan|cot|sec|csc|log|exp|max|min|gcd|lcm|det|lim|mod|sqrt|inf)h?\b")
_DRESS = (("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]"))


class Math:
    """1 for an answer that is mathematically one of the gold answers."""

    name: str = "math"

    def check(self, question: BenchmarkQuestion) -> None:
        """Raises ValueError for a gold answer that is empty, too long, or neither mathematics nor words."""
        check_not_empty(question)
        for gold in question.answers:
            bare = _bare(gold)
            if len(bare) > MAX_CHARACTERS:
                raise ValueError(f"a gold answer of {len(bare)} characters; math takes up to {MAX_CHARACTERS}")
            if not _words(bare) and not reads(bare):
                raise ValueError(f"gold answer {gold!r} cannot be read as mathematics; the scorer match compares text")

    def score(self, question: BenchmarkQuestion, reply: str) -> Verdict:
        """One answer that takes too long is wrong, and never holds up the others: see `equivalence`."""
        answer = find_answer(reply)
        if answer is None:
            return Verdict(0.0, None)
        return Verdict(float(any(same(gold, answer) for gold in question.answers)), answer)


def same(gold: str, answer: str) -> bool:
    """True when `answer` is `gold`, as mathematics or, where `gold` is words, as words."""
    gold = _bare(gold)
    if _words(gold):
        return matches((gold,), answer)
    return equivalent(gold, _bare(answer))


def _words(gold: str) -> bool:
    text = as_text(gold)
    return _WORDS.fullmatch(text) is not None and _FUNCTIONS.search(text) is None


def _bare(text: str) -> str:
    """Without the dollar signs or brackets that say that it is LaTeX."""
    text = text.strip()
    for opening, closing in _DRESS:
        inner = text[len(opening) : -len(closing)]
        if text.startswith(opening) and text.endswith(closing) and inner and opening not in inner:
            return inner.strip()
    return text
