"""Scorer `relaxed`: ChartQA's relaxed accuracy, numbers within 5 % of the gold answer and texts equal.

Sources: Masry et al., ChartQA (arXiv 2203.10244, section 5.1, after Methani et al. 2020): a numeric answer is right
within 5 % of the *gold* value, a text must be equal. Its usual code (pix2struct, Qwen-VL, lmms-eval) leaves open how a
number is written: any comma, currency or word beside it makes it a text. ChartQAPro (arXiv 2504.05506,
`evaluate_predictions.py` of github.com/vis-nlp/ChartQAPro) adds lists and years. What we do:

- Tolerance: |answer - gold| <= 0.05 |gold|, in decimal arithmetic, the limit included. Never relative to the answer,
  and no other scales are tried (both as the released script does: fact sheet 7, defect 28). A gold 0 wants 0 exactly.
- Percent, thousand, million …: where both sides say one, both count (`5 thousand` is not `5 million`). Where one side
  says it and the other does not, the number may agree as written, the unit being the chart's (`45%` for 45, as in
  ChartQAPro), or in value (`45%` for 0.45, as in pix2struct; `1.2 million` for 1,200,000). 0.45 for 45 is wrong.
- Grouping of thousands, decimal commas, fractions, exponents: see `numbers.read_number`.
- Currencies and units: a side without one agrees with any; two different ones do not (`$5` is not `€5`).
- A reply that is a sentence with exactly one number is that number.
- Years: ChartQAPro marks answers that are years and wants them exact, as 5 % of 2000 is a century. Its marks are not in
  the files we read, so: a gold answer of four digits from 1000 to 2100 is exact where the question asks for a year
  (`which year`, `when`, …). Other sources have no such rule.
- Texts: equal after `match.normal` (ChartQA: equal but for case; ChartQAPro: ANLS, which the scorer anls is for).
- Lists: a gold answer in square brackets is a list, scored as in ChartQAPro: the mean over positions, a missing or
  extra part 0. The answer may lack the brackets. Of several gold answers the best counts.
"""
# ruff: noqa: RUF001 - punctuation of other scripts is meant

import re
from decimal import Decimal

from caprl_core.prism.question import BenchmarkQuestion
from caprl_core.prism.scorers.latex import as_text
from caprl_core.prism.scorers.match import check_not_empty, matches
from caprl_core.prism.scorers.numbers import Number, only_number, read_number
from caprl_core.prism.scorers.reply import find_answer
from caprl_core.prism.scorers.verdict import Verdict

TOLERANCE = Decimal("0.05")
"""Share of the gold value (ChartQA, section 5.1)."""

YEARS = range(1000, 2101)
"""What a year is, among gold answers of four digits."""

_ASKS_YEAR = re.compile(
    # Not "What was sold per year?", "What was sold in the year 2010?".
    r"\b(?:what|which)\s(?:(?!(?:per|each|every|a|one|this|last|that|same|in|for|during)\b)[^\W\d_]{1,20}\s){0,4}"
    r"years?\b(?!\s{0,2}\(?\d)"
    r"|\b(?:name|find|identify|give|state)\s(?:the\s)(?:[^\W\d_]{1,20}\s){0,2}year\b(?!\s{0,2}\(?\d)"
    r"|(?:^|[.,;:?]\s{0,3}|\b(?:since|until|from|by|and)\s)when\s(?:did|does|do|is|was|were|are|will|has|have|had)\b"
    r"|哪一?年|何年|什么时候|何时",
    re.IGNORECASE,
)
_LIST = re.compile(r"\s*\[(.*)\]\s*", re.DOTALL)
_PART = re.compile(r"\s*(?:'([^']*)'|\"([^\"]*)\"|([^,]*?))\s*(?:,|$)", re.DOTALL)
_WIDE = re.compile(r",\s|;|\n|、|，|\band\b|&")


class Relaxed:
    """1 for a number within 5 % of the gold answer or an equal text; for lists the share of parts that are."""

    name: str = "relaxed"

    def check(self, question: BenchmarkQuestion) -> None:
        """Raises ValueError for an empty gold answer, or a list with nothing in it."""
        check_not_empty(question)
        for gold in question.answers:
            parts = _listed(gold)
            if parts is not None and not all(parts):
                raise ValueError(f"gold answer {gold!r} is a list with an empty part")

    def score(self, question: BenchmarkQuestion, reply: str) -> Verdict:
        """LaTeX in the answer is read as the text that it shows."""
        answer = find_answer(reply)
        if answer is None:
            return Verdict(0.0, None)
        year = _ASKS_YEAR.search(question.text) is not None
        shown = as_text(answer)
        return Verdict(max((points(gold, shown, year=year) for gold in question.answers), default=0.0), answer)


def points(gold: str, answer: str, *, year: bool) -> float:
    """What `answer` is worth, 0 to 1; `year`: the question asks for a year, so a gold year is exact."""
    parts = _listed(gold)
    if matches((gold,), answer):
        return 1.0
    if parts is None:
        return float(correct(gold, answer, year=year))
    said = _listed(answer)
    said = _split(answer, len(parts)) if said is None else said
    right = sum(correct(part, word, year=year) for part, word in zip(parts, said, strict=False))
    return right / max(len(parts), len(said), 1)


def correct(gold: str, answer: str, *, year: bool) -> bool:
    """True for an equal text or a number close enough; see the module."""
    if matches((gold,), answer):
        return True
    wanted = read_number(gold)
    if wanted is None:
        return False
    said = read_number(answer) or only_number(answer)
    if said is None:
        return False
    if year and wanted.bare and wanted.value in YEARS and len(gold.strip()) == 4:
        return said.value == wanted.value
    return close(wanted, said)


def close(gold: Number, said: Number) -> bool:
    """Within the tolerance of the gold value, in one of the ways in which the two can be compared."""
    if (gold.currency and said.currency and gold.currency != said.currency) or (
        gold.unit and said.unit and gold.unit != said.unit
    ):
        return False
    one, other = gold.factor or Decimal(1), said.factor or Decimal(1)
    if _within(gold.value * one, said.value * other):
        return True
    return (gold.factor is None or said.factor is None) and _within(gold.value, said.value)


def _within(gold: Decimal, said: Decimal) -> bool:
    return abs(said - gold) <= TOLERANCE * abs(gold)


def _listed(text: str) -> list[str] | None:
    """Parts of a list in square brackets, quotes taken off; None for what is none."""
    match = _LIST.fullmatch(text)
    if match is None or "[" in match[1] or "]" in match[1]:
        return None
    inside, parts, place = match[1], list[str](), 0
    while place < len(inside) or not parts:
        part = _PART.match(inside, place)
        if part is None:
            return None
        parts.append(next((found for found in part.groups() if found is not None), "").strip())
        place = part.end()
    return parts


def _split(answer: str, wanted: int) -> list[str]:
    """Parts of a list without brackets: by what separates surely, or by every comma where only that gives `wanted`."""
    parts = [part.strip() for part in _WIDE.split(answer) if part.strip()]
    if len(parts) != wanted and answer.count(",") == wanted - 1:
        return [part.strip() for part in answer.split(",")]
    return parts
