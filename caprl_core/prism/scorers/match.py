"""Scorers `exact` and `match`: the answer is the gold answer, as it stands or after normalisation.

Normalisation follows SQuAD's evaluation (Rajpurkar et al. 2016, arXiv 1606.05250: lower case, no punctuation, no
articles, single spaces) with what VQA's evaluation adds for numbers (Antol et al. 2015, arXiv 1505.00468: number words
are digits), and two changes. SQuAD deletes every punctuation mark, so that 3.5 is 35 and -5 is 5: here a mark that
belongs to a number stays. SQuAD is for English in ASCII: here compatibility characters and case are folded by Unicode's
rules.
"""

import functools
import re

from caprl_core.prism.question import BenchmarkQuestion
from caprl_core.prism.scorers.latex import as_text
from caprl_core.prism.scorers.reply import find_answer
from caprl_core.prism.scorers.verdict import Verdict
from caprl_core.qa.blocks.wording import comparable

NUMBER_WORDS = {
    word: str(number)
    for number, word in enumerate(
        ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
    )
}
"""VQA's evaluation has those to ten, and `none` for 0, which is no number in an answer such as `none of them`."""

_ARTICLES = frozenset({"a", "an", "the"})
_MINUS = re.compile(r"(?<![^\s(])[-\u2010-\u2015\u2212](?=[.]?\d)")
_THOUSANDS = re.compile(r"(?<![\d.,])(\d{1,3}(?:,\d{3})+)(?![\d,])")
_TRAILING_ZEROS = re.compile(r"(?<![\d.])(-?\d{1,30})\.0{1,30}(?![\d.])")
_JOINED = re.compile(r"['\u2019\u02bc`\u00b4]")
_PERCENT = re.compile(r"%|\bper\s?cent\b|\bpct\b")
# A point between digits, a comma, colon, slash or hyphen between them, and a minus, are parts of a number.
_PUNCTUATION = re.compile(r"(?!(?<=\d)[.,:/-](?=\d))(?!\.(?=\d))(?!\x00)[^\w\s$\u20ac\u00a3\u00a5\u20b9+]|_")


@functools.lru_cache(maxsize=50_000)
def normal(text: str) -> str:
    """The form in which `match` compares: compatibility characters and case folded (NFKC), white space single, no
    punctuation but in numbers, no articles, number words to twelve as digits, `1,234.0` as `1234`, `%` as `percent`.

    A text of which nothing would be left (`?`, `The`) keeps what it has.
    """
    folded = comparable(text)
    marked = _PERCENT.sub(" percent ", _THOUSANDS.sub(lambda match: match[0].replace(",", ""), folded))
    marked = _MINUS.sub("\x00", marked.replace("\x00", " "))
    words = _PUNCTUATION.sub(" ", _JOINED.sub("", marked)).replace("\x00", "-").split()
    kept = [NUMBER_WORDS.get(word, _TRAILING_ZEROS.sub(r"\1", word)) for word in words if word not in _ARTICLES]
    return " ".join(kept) or folded


class Exact:
    """1 for an answer that is one of the gold answers as written, but for white space at its ends and its amount."""

    name: str = "exact"

    def check(self, question: BenchmarkQuestion) -> None:
        """Raises ValueError for an empty gold answer."""
        check_not_empty(question)

    def score(self, question: BenchmarkQuestion, reply: str) -> Verdict:
        """Case and punctuation count."""
        answer = find_answer(reply)
        if answer is None:
            return Verdict(0.0, None)
        right = {" ".join(gold.split()) for gold in question.answers}
        return Verdict(float(" ".join(answer.split()) in right or as_text(answer) in right), answer)


class Match:
    """1 for an answer that is one of the gold answers after `normal`."""

    name: str = "match"

    def check(self, question: BenchmarkQuestion) -> None:
        """Raises ValueError for an empty gold answer."""
        check_not_empty(question)

    def score(self, question: BenchmarkQuestion, reply: str) -> Verdict:
        """LaTeX in the answer is read as the text that it shows."""
        answer = find_answer(reply)
        return Verdict(0.0, None) if answer is None else Verdict(float(matches(question.answers, answer)), answer)


def matches(golds: tuple[str, ...], answer: str) -> bool:
    """True when `answer` is one of `golds` after `normal`."""
    said = normal(as_text(answer))
    return any(said == normal(as_text(gold)) for gold in golds)


def check_not_empty(question: BenchmarkQuestion) -> None:
    """Raises ValueError where there is no gold answer, or an empty one."""
    if not question.answers:
        raise ValueError("no gold answer")
    if not all(gold.strip() for gold in question.answers):
        raise ValueError(f"an empty gold answer in {list(question.answers)}: leave it out, or leave the question out")
