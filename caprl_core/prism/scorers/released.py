"""What the released evaluation script gives for a reply, its quirks included: the figures beside ours.

Source: `Prism_Evaluation/Eval_CapRL.py` (lines 15-71 and 214-219), `vqa_eval.py` and `vlm_misc.py` of
github.com/InternLM/CapRL at 9bbc1bb; fact sheet 4, and the defects of 7 that are kept here on purpose:

- 25: a gold answer in which math-verify finds nothing gives 1.0, whatever the reply.
- 28: the arguments of relaxed accuracy are exchanged, so the 5 % are of the *prediction*; and a numeric prediction is
  tried as it is, times 0.01 and times 100, so that 45 and 0.45 are both right for 45.
- Only `</think> <answer>…\\boxed{…}…</answer>` is read, braces greedily to the last one; of anything else the answer is
  empty.
- What math-verify makes of the answer is scored as a number or text: a prediction of 0.5 is `\\frac{1}{2}` by then, and
  no number any more. And it reads words as products of letters: `arm` is `ram`.
- 27: the scoring goes by words in the file's path; here the recipe says which (`kind`).

Two things are not kept. 29: the gold answer is evaluated as Python there; here only a literal list is read (`[2010,
2012]`), so a gold answer that is an expression for a list counts as text. And what takes math-verify longer than our
limit, or is longer than `equivalence.MAX_CHARACTERS`, is not the same, where the script waits up to 5 s, or for ever.
"""

import ast
import re
from collections.abc import Sequence

from caprl_core.prism.scorers.anls import THRESHOLD, distance
from caprl_core.prism.scorers.equivalence import MAX_CHARACTERS, ReleasedEquivalence, released_equivalence
from caprl_core.prism.scorers.verdict import Verdict
from caprl_core.recipe.prism import ReleasedScoring

SCALES = (1, 0.01, 100)
"""What a numeric prediction is multiplied by, one after the other."""

_BEGINS = re.compile(r"</think>\s*<answer>")


def released_points(kind: ReleasedScoring, answers: Sequence[str], reply: str) -> Verdict:
    """`math`: math-verify; `chart`: relaxed accuracy or math-verify, whichever gives more; `info`: also ANLS.

    answers: the gold answers; several are what the script reads from an answer that is written as a list. Total.
    """
    gold = answers[0] if len(answers) == 1 else str(list(answers))
    boxed = released_answer(reply)
    found = released_equivalence(gold, boxed or "")
    points = 1.0 if not found.reads else float(found.same)
    if kind != "math":
        points = max(points, _chart(gold, found, similarity=kind == "info"))
    return Verdict(points, boxed)


def released_answer(reply: str) -> str | None:
    """What the script's pattern for the boxed answer captures, in linear time; None where it finds nothing.

    `</think>\\s*<answer>.*?\\\\boxed{(.*)}.*?</answer>` is greedy: from the first box after the first
    `</think> <answer>` to the last brace that still has an `</answer>` after it, through whatever stands between.
    """
    begins = _BEGINS.search(reply)
    if begins is None:
        return None
    box = reply.find("\\boxed{", begins.end())
    brace = reply.rfind("}", 0, max(reply.rfind("</answer>"), 0))
    start = box + len("\\boxed{")
    return reply[start:brace] if box >= 0 and brace >= start else None


def _chart(gold: str, found: ReleasedEquivalence, *, similarity: bool) -> float:
    """`verify_chart`: relaxed accuracy on the last reading of the boxed answer, and with `similarity` also ANLS."""
    golds = _alternatives(gold)
    points = max((float(_relaxed(said, one)) for said in _tried(found.last) for one in golds), default=0.0)
    if similarity and golds and len(found.last) <= MAX_CHARACTERS:
        best = 1 - min(_anls_distance(one, found.last) for one in golds)
        points = max(points, best if best >= THRESHOLD else 0.0)
    return points


def _tried(last: str) -> list[str]:
    try:
        number = float(last)
    except ValueError:
        return [last.strip()]
    return [str(scale * number) for scale in SCALES]


def _alternatives(gold: str) -> list[str]:
    if len(gold) <= MAX_CHARACTERS:
        try:
            literal = ast.literal_eval(gold.strip())
        except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
            return [gold]
        if isinstance(literal, list):
            return [str(one) for one in literal]
    return [gold]


def _relaxed(target: str, prediction: str) -> bool:
    """`relaxed_correctness` as called: `target` is what the judge said, `prediction` the gold answer."""
    wanted, said = _as_float(target), _as_float(prediction)
    if said is not None and wanted:
        return abs(said - wanted) / abs(wanted) <= 0.05
    return prediction.lower() == target.lower()


def _as_float(text: str) -> float | None:
    try:
        return float(text.rstrip("%")) / 100.0 if text.endswith("%") else float(text)
    except ValueError:
        return None


def _anls_distance(gold: str, said: str) -> float:
    """`anls_compute`: distance after trimming, divided by the longer length before it."""
    longer = max(len(gold.upper()), len(said.upper()))
    if longer == 0:
        return 0.0
    return distance(" ".join(gold.strip().lower().split()), " ".join(said.strip().lower().split())) / longer
