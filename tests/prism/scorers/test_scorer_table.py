"""What all scorers have in common."""

from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caprl_core.prism.question import BenchmarkQuestion
from caprl_core.prism.scorers.table import SCORERS, scorer
from caprl_core.recipe.prism import ScorerName

NAMES: tuple[ScorerName, ...] = get_args(ScorerName)
GOLDS = {
    "choice": "B",
    "choice_or_abstain": "B",
    "relaxed": "12",
    "anls": "blue car",
    "math": "12",
    "match": "blue",
    "exact": "blue",
}


def question(name: ScorerName) -> BenchmarkQuestion:
    options = ("red", "blue", "green") if name.startswith("choice") else ()
    return BenchmarkQuestion("q", "What is it?", options, (GOLDS[name],))


def test_every_name_of_a_recipe_has_its_scorer() -> None:
    assert set(SCORERS) == set(NAMES)
    assert [scorer(name).name for name in NAMES] == list(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_the_gold_answer_is_worth_everything_in_every_form_of_reply(name: ScorerName) -> None:
    asked = question(name)
    scorer(name).check(asked)
    gold = GOLDS[name]
    for reply in (gold, f"Answer: {gold}", f"Let me see.\n\nAnswer: {gold}", f"<think>red</think>\n\\boxed{{{gold}}}"):
        assert scorer(name).score(asked, reply).points == 1


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("reply", ["", "  \n", "<think>It is the", "One bar is red.\nThe other one is higher."])
def test_no_answer_is_no_points_and_told_apart(name: ScorerName, reply: str) -> None:
    verdict = scorer(name).score(question(name), reply)
    assert (verdict.points, verdict.read) == (0, None)


@pytest.mark.parametrize("name", NAMES)
def test_a_wrong_answer_is_no_points_and_is_told(name: ScorerName) -> None:
    verdict = scorer(name).score(question(name), "Answer: C" if name.startswith("choice") else "Answer: zebra 99")
    assert (verdict.points, verdict.read) == (0, "C" if name.startswith("choice") else "zebra 99")


@settings(max_examples=60, deadline=None)
@given(reply=st.text(max_size=200), name=st.sampled_from(NAMES))
def test_every_reply_has_a_verdict(reply: str, name: ScorerName) -> None:
    verdict = scorer(name).score(question(name), reply)
    assert 0 <= verdict.points <= 1
    assert verdict.read is not None or verdict.points == 0


@pytest.mark.parametrize("name", NAMES)
def test_the_same_reply_has_the_same_verdict(name: ScorerName) -> None:
    for reply in ("Answer: 12.3", "B", "blue", "\\boxed{12}", "x"):
        assert scorer(name).score(question(name), reply) == scorer(name).score(question(name), reply)


@pytest.mark.parametrize("name", NAMES)
def test_a_reply_of_a_hundred_thousand_characters_is_scored(name: ScorerName) -> None:
    for part in ("The answer is ", "\\boxed{", "a) ", "{", "1,"):
        scorer(name).score(question(name), part * (100_000 // len(part)))
