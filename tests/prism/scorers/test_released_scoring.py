"""The released script's scoring, and where it must differ from ours (fact sheet 4 and 7)."""

import math
import re

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from caprl_core.prism.question import BenchmarkQuestion
from caprl_core.prism.scorers.released import released_answer, released_points
from caprl_core.prism.scorers.table import scorer
from caprl_core.recipe.prism import ReleasedScoring, ScorerName

OUR_SCORER: dict[ReleasedScoring, ScorerName] = {"math": "math", "chart": "relaxed", "info": "anls"}


def boxed(answer: str) -> str:
    """A reply in the one form that the released script reads."""
    return f"<think>So.</think> <answer>It is \\boxed{{{answer}}}.</answer>"


def both(kind: ReleasedScoring, gold: str, reply: str, text: str = "How much?") -> tuple[float, float]:
    """What the released script and our scorer give."""
    ours = scorer(OUR_SCORER[kind]).score(BenchmarkQuestion("q", text, (), (gold,)), reply).points
    return released_points(kind, (gold,), reply).points, ours


DIFFERENT = [
    # why, kind, gold, reply, released, ours
    ("form: no </think>", "math", "5", r"<answer>\boxed{5}</answer>", 0, 1),
    ("form: no <answer>", "math", "5", r"<think>a</think>\boxed{5}", 0, 1),
    ("form: no box", "chart", "5", "<think>a</think><answer>5</answer>", 0, 1),
    ("form: our prompt's", "chart", "5", "Answer: 5", 0, 1),
    ("form: tag not closed", "math", "5", r"<think>a</think><answer>\boxed{5}", 0, 1),
    ("form: text between", "math", "5", r"</think> So <answer>\boxed{5}</answer>", 0, 1),
    ("form: greedy braces", "math", "5", r"</think><answer>\boxed{5} as {5}</answer>", 0, 1),
    (
        "form: greedy to the last tag",
        "math",
        "5",
        r"</think><answer>\boxed{4}</answer><answer>\boxed{5}</answer>",
        0,
        1,
    ),
    ("25: gold that math-verify cannot read is right", "math", "a\nb", boxed("c"), 1, 0),
    ("25: and so is no answer at all", "math", "a\nb", "", 1, 0),
    ("25: in charts too", "chart", "a\nb", boxed("c"), 1, 0),
    ("28: 5 % of the prediction, not of the gold value", "chart", "95", boxed("100"), 1, 0),
    ("28: and the other way round", "chart", "105", boxed("100"), 1, 1),
    ("28: just beyond 5 % of the prediction", "chart", "105", boxed("99.8"), 0, 1),
    ("28: times 100", "chart", "45", boxed("0.45"), 1, 0),
    ("28: times 0.01", "chart", "0.45", boxed("45"), 1, 0),
    ("28: a prediction of 0 is compared as text", "chart", "0.001", boxed("0"), 0, 0),
    ("numbers: a currency makes a text", "chart", "$50", boxed("51"), 0, 1),
    ("numbers: so does a comma", "chart", "1,234", boxed("1235"), 0, 1),
    ("numbers: and a unit", "chart", "50 km", boxed("51 km"), 0, 1),
    ("numbers: and one half is a fraction, so a text", "chart", "0.49", boxed("0.5"), 0, 1),
    ("years have a tolerance", "chart", "2010", boxed("2011"), 1, 0),
    ("29: a list means alternatives", "chart", "[10, 50]", boxed("50"), 1, 0),
    ("words are products of letters", "math", "arm", boxed("ram"), 1, 0),
    ("and spaces between them nothing", "info", "Coca Cola", boxed("CocaCola"), 1, 8 / 9),
    ("a list in any order", "chart", "[1, 20]", boxed("20, 1"), 0, 0),
    ("info: ANLS or relaxed or math, whichever is most", "info", "95", boxed("100"), 1, 0),
    ("info: the length is measured with its spaces", "info", "abcd  ", boxed("abxy"), 1 - 2 / 6, 0.5),
]


@pytest.mark.parametrize(("why", "kind", "gold", "reply", "released", "ours"), DIFFERENT)
def test_where_they_must_differ(
    why: str, kind: ReleasedScoring, gold: str, reply: str, released: float, ours: float
) -> None:
    text = "In which year?" if why.startswith("years") else "How much?"
    assert both(kind, gold, reply, text) == (pytest.approx(released), pytest.approx(ours)), why


ALIKE = [
    *(
        ("math", gold, answer)
        for gold, answer in (("5", "5"), ("5", "6"), ("A", "A"), ("A", "B"), ("Yes", "No"), ("Yes", "Yes"))
    ),
    *(
        ("math", gold, answer)
        for gold, answer in ((r"\frac{1}{2}", "0.5"), ("x+1", "1+x"), ("x+1", "x"), ("2,3", "3,2"))
    ),
    *(
        ("chart", gold, answer)
        for gold, answer in (("100", "103"), ("100", "97"), ("100", "110"), ("Yes", "yes"), ("0", "0"))
    ),
    *(
        ("chart", gold, answer)
        for gold, answer in (("0.45", "0.44"), ("45%", r"45\%"), ("45%", "45"), ("45%", "0.45"), ("-5", "-5"))
    ),
    *(("info", gold, answer) for gold, answer in (("kitten", "sitting"), ("Coca Cola", "Pepsi"), ("ab", "ac"))),
]


@pytest.mark.parametrize(("kind", "gold", "answer"), ALIKE)
def test_where_they_agree(kind: ReleasedScoring, gold: str, answer: str) -> None:
    released, ours = both(kind, gold, boxed(answer))
    assert released == pytest.approx(ours)


def test_several_gold_answers_are_a_list_of_alternatives() -> None:
    assert released_points("info", ("Coca Cola", "Pepsi"), boxed("pepsi")).points == 1
    assert released_points("chart", ("Coca Cola", "12"), boxed("12.2")).points == 1
    assert released_points("chart", ("Coca Cola", "12"), boxed("15")).points == 0


def test_the_gold_answer_is_never_evaluated() -> None:
    # 29: there, this is the list [2010].
    assert released_points("chart", ("list((2010,))",), boxed("2010")).points == 0
    assert released_points("chart", ("['20' + '10']",), boxed("2010")).points == 0
    assert released_points("chart", ("[]",), boxed("2010")).points == 0  # there, a crash
    assert released_points("chart", ("[" * 1500,), boxed("2010")).points == 0


def test_what_was_read_is_told() -> None:
    assert released_points("math", ("5",), boxed("7")).read == "7"
    assert released_points("math", ("5",), "Answer: 7").read is None


PATTERN = re.compile(r"</think>\s*<answer>.*?\\boxed{(.*)}.*?</answer>", re.DOTALL)
"""As in the released script (Eval_CapRL.py, line 33): of quadratic time, so only for short replies."""
PARTS = ["</think>", "<answer>", "</answer>", "\\boxed{", "}", "{", " ", "\n", "5", "x", "</think><answer>\\boxed{"]


@given(reply=st.lists(st.sampled_from(PARTS), max_size=14).map("".join))
def test_the_answer_is_what_the_pattern_would_capture(reply: str) -> None:
    found = PATTERN.findall(reply)
    assert released_answer(reply) == (found[-1] if found else None)


@settings(max_examples=100)  # each asks another process
@given(reply=st.text(max_size=80), gold=st.text(max_size=20), kind=st.sampled_from(["math", "chart", "info"]))
def test_any_reply_gets_points(reply: str, gold: str, kind: ReleasedScoring) -> None:
    assert 0 <= released_points(kind, (gold,), reply).points <= 1


POSITIVE = st.decimals("0.5", "5000", places=2).map(float)


@settings(max_examples=100)
@given(gold=POSITIVE, said=POSITIVE)
def test_numbers_in_charts_are_scored_by_the_exchanged_and_rescaled_tolerance(gold: float, said: float) -> None:
    ratios = [abs(gold - scale * said) / (scale * said) for scale in (1, 0.01, 100)]
    assume(all(not math.isclose(ratio, 0.05, rel_tol=1e-6) for ratio in ratios))
    assume(said != 0.5)  # math-verify makes it a fraction, which is a text then
    assert released_points("chart", (str(gold),), boxed(str(said))).points == float(min(ratios) <= 0.05)


@pytest.mark.parametrize("part", [*PARTS, "</think> ", "</think><answer>", "<answer>\\boxed{}"])
def test_long_replies_are_read_in_time(part: str) -> None:
    long = part * (25_000 // len(part))
    released_answer(long)
    released_answer(f"</think><answer>\\boxed{{{long}")
    released_points("info", ("5",), f"</think><answer>\\boxed{{{long}}}</answer>")
