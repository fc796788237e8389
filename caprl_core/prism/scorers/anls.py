"""Scorer `anls`: normalised Levenshtein similarity, as InfographicVQA and DocVQA are scored.

Source: Biten et al., Scene Text Visual Question Answering (ICCV 2019, arXiv 1905.13648), with its threshold of 0.5. The
average over questions is the results' business. Where sources differ we follow the evaluation script of the competition
(rrc.cvc.uab.es), as Qwen-VL, lmms-eval and the released script carry it:

- Case makes no difference, spaces do; white space is trimmed and runs of it count as one space.
- A similarity of exactly 0.5 counts as 0.5 (`below the threshold -> 0`); by the letter of the paper, and in the
  package anls 0.0.2, it is 0.
- The distance is divided by the longer of both texts *after* trimming. The script measures them before, so that a reply
  with spaces at its end scores higher than without.
- Ours: composed and decomposed accents are the same character (NFC).
"""

import functools
import unicodedata

from caprl_core.prism.question import BenchmarkQuestion
from caprl_core.prism.scorers.latex import as_text
from caprl_core.prism.scorers.match import check_not_empty
from caprl_core.prism.scorers.reply import find_answer
from caprl_core.prism.scorers.verdict import Verdict

THRESHOLD = 0.5
"""Below it an answer is wrong, not misspelt (Biten et al. 2019)."""

MAX_GOLD_CHARACTERS = 1000
"""A longer gold answer is no short answer, and the distance takes time by the product of both lengths."""


class Anls:
    """The best similarity over the gold answers, 0 below `THRESHOLD`."""

    name: str = "anls"

    def check(self, question: BenchmarkQuestion) -> None:
        """Raises ValueError for an empty gold answer or one longer than `MAX_GOLD_CHARACTERS`."""
        check_not_empty(question)
        if (longest := max(map(len, question.answers))) > MAX_GOLD_CHARACTERS:
            raise ValueError(f"a gold answer of {longest} characters; anls takes up to {MAX_GOLD_CHARACTERS}")

    def score(self, question: BenchmarkQuestion, reply: str) -> Verdict:
        """LaTeX in the answer is read as the text that it shows."""
        answer = find_answer(reply)
        if answer is None:
            return Verdict(0.0, None)
        return Verdict(max((similarity(gold, as_text(answer)) for gold in question.answers), default=0.0), answer)


@functools.lru_cache(maxsize=50_000)
def similarity(gold: str, answer: str) -> float:
    """1 - distance / length of the longer text; 0 where that is below `THRESHOLD`. Symmetric, 0 to 1.

    Two empty texts are the same.
    """
    one, other = _folded(gold), _folded(answer)
    longer = max(len(one), len(other))
    if one == other:
        return 1.0
    # The difference of lengths alone is a distance: most wrong answers end here.
    if 1 - abs(len(one) - len(other)) / longer < THRESHOLD:
        return 0.0
    found = 1 - distance(one, other) / longer
    return found if found >= THRESHOLD else 0.0


def distance(one: str, other: str) -> int:
    """Levenshtein distance: the fewest characters to insert, delete or replace."""
    if len(one) < len(other):
        one, other = other, one
    before = list(range(len(other) + 1))
    for row, character in enumerate(one, 1):
        here = [row]
        for column, against in enumerate(other):
            if character == against:
                here.append(before[column])
            else:
                here.append(1 + min(before[column], before[column + 1], here[column]))
        before = here
    return before[-1]


def _folded(text: str) -> str:
    # Lower case can decompose (İ), so composed after it.
    return " ".join(unicodedata.normalize("NFC", text.lower()).split())
