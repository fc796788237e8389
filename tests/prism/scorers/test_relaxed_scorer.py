"""ChartQA's relaxed accuracy."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from caprl_core.prism.question import BenchmarkQuestion
from caprl_core.prism.scorers.relaxed import Relaxed, points

PLAIN = "How high is the bar?"


def scored(gold: str, reply: str, text: str = PLAIN) -> float:
    return Relaxed().score(BenchmarkQuestion("q", text, (), (gold,)), reply).points


CASES = [
    # gold, answer, points
    # 5 % of the gold value, the limit included
    ("100", "100", 1),
    ("100", "105", 1),
    ("100", "95", 1),
    ("100", "105.01", 0),
    ("100", "94.99", 0),
    ("105", "100", 1),
    ("95", "100", 0),  # 5.3 % of the gold value; 5 % of the answer
    ("0.6", "0.63", 1),  # in binary arithmetic just over 5 %
    ("0.6", "0.57", 1),
    ("-40", "-42", 1),
    ("-40", "-43", 0),
    ("-40", "40", 0),
    ("3", "3.2", 0),
    ("5.0", "5", 1),
    # zero has no tolerance
    ("0", "0", 1),
    ("0", "0.0", 1),
    ("0", "-0", 1),
    ("0", "0%", 1),
    ("0", "0.001", 0),
    ("0.001", "0", 0),
    # other scales are not tried
    ("45", "0.45", 0),
    ("0.45", "45", 0),
    ("45", "4500", 0),
    # percent
    ("45", "45%", 1),
    ("45%", "45", 1),
    ("45%", "45 percent", 1),
    ("0.45", "45%", 1),
    ("45%", "0.45", 1),
    ("45%", "44%", 1),
    ("45%", "40%", 0),
    ("0.45%", "45%", 0),
    ("5%", "5 percentage points", 1),
    # thousands and millions
    ("1,234", "1234", 1),
    ("1234", "1,234", 1),
    ("1234567", "1 234 567", 1),
    ("1.2 million", "1,200,000", 1),
    ("1200000", "1.2M", 1),
    ("1.2", "1.2 million", 1),  # the chart's unit is millions
    ("5 thousand", "5 million", 0),
    ("5k", "5,100", 1),
    ("3 bn", "3 billion", 1),
    # currencies and units
    ("$5.20", "5.2", 1),
    ("5.2", "$5.20", 1),
    ("$5", "5 dollars", 1),
    ("$5", "€5", 0),
    ("12 km", "12", 1),
    ("12", "12 km", 1),
    ("12 km", "12 kilometres", 1),
    ("12 km", "12 miles", 0),
    ("3 years", "3 yrs", 1),
    ("30°C", "30 °C", 1),
    # forms of numbers
    ("0.5", "1/2", 1),
    ("1500", "1.5e3", 1),
    ("1500", "1.5 × 10^3", 1),
    ("2.5", "2½", 1),
    ("12.5", "12,5", 1),
    ("-5", "−5", 1),
    ("5", "five", 1),
    ("about 50", "51", 1),
    # one number in a sentence
    ("45", "It is 45.", 1),
    ("45", "The share fell to 44% then", 1),
    ("45", "45 in 2010", 0),
    ("45", "between 44 and 46", 0),
    ("3", "Q3", 0),
    # texts
    ("Yes", "yes", 1),
    ("Yes", "Yes.", 1),
    ("Yes", "No", 0),
    ("United States", "the united states", 1),
    ("United States", "United State", 0),
    ("blue", "light blue", 0),
    ("2010-2015", "2010 - 2015", 0),
    ("2010-2015", "2010-2015", 1),
    ("3rd", "3", 0),
    ("1990s", "1990", 0),
    ("3:2", "3:2", 1),
    ("7 Eleven", "7", 0),
    ("Q3 2010", "Q3 2010", 1),
    ("", "5", 0),
    # lists, as in ChartQAPro
    ("[2010, 2012]", "[2010, 2012]", 1),
    ("['Spain', 'Italy']", "[Spain, Italy]", 1),
    ("['Spain', 'Italy']", "Spain, Italy", 1),
    ("['Spain', 'Italy']", "Spain and Italy", 1),
    ("['Spain', 'Italy']", "Italy, Spain", 0),
    ("['Spain', 'Italy']", "Spain", 0.5),
    ("['Spain', 'Italy']", "Spain, France", 0.5),
    ("[10, 20, 30]", "[10, 21, 33]", 2 / 3),
    ("[10, 20]", "[10, 20, 30]", 2 / 3),
    ("[Spain]", "Spain", 1),
    ("[1.5, 2.5]", "1.5,2.5", 1),
]


@pytest.mark.parametrize(("gold", "answer", "wanted"), CASES)
def test_answers_are_worth_what_the_rules_say(gold: str, answer: str, wanted: float) -> None:
    assert points(gold, answer, year=False) == pytest.approx(wanted)


YEARS = [
    # question, gold, answer, points
    ("In which year was the value highest?", "2010", "2010", 1),
    ("In which year was the value highest?", "2010", "2011", 0),
    ("In which year was the value highest?", "2010", "in 2010", 1),
    ("What was the first fiscal year of growth?", "2010", "2015", 0),
    ("When did sales peak?", "1998", "1999", 0),
    ("Since when has it grown? Name the year.", "1998", "1999", 0),
    ("哪一年最高？", "2010", "2011", 0),
    ("What was the population in the year 2010?", "1950", "2000", 1),
    ("What was the mean number sold per year?", "1950", "2000", 1),
    ("What was sold in the year with most rain?", "1950", "2000", 1),
    ("What value did year 2012 have?", "1950", "2000", 1),
    ("How many years did it last?", "2000", "2050", 1),
    ("How many cars were sold when it rained?", "2010", "2050", 1),
    (PLAIN, "2010", "2050", 1),
    ("In which year was the value highest?", "2,010", "2050", 1),  # no year is written so
    ("In which year was the value highest?", "250", "251", 1),
    ("In which two years?", "[2010, 2012]", "[2010, 2013]", 0.5),
]


@pytest.mark.parametrize(("text", "gold", "answer", "wanted"), YEARS)
def test_years_are_exact_where_a_year_is_asked_for(text: str, gold: str, answer: str, wanted: float) -> None:
    assert scored(gold, f"Answer: {answer}", text) == wanted


def test_of_several_gold_answers_the_best_counts() -> None:
    several = BenchmarkQuestion("q", PLAIN, (), ("Spain", "12", "[1, 2]"))
    for answer, wanted in (("spain", 1), ("12.1", 1), ("[1, 3]", 0.5), ("Italy", 0)):
        assert Relaxed().score(several, answer).points == wanted


def test_latex_counts_as_what_it_shows() -> None:
    assert scored("45%", r"\boxed{45\%}") == 1
    assert scored("Yes", r"\boxed{\text{Yes}}") == 1
    assert scored("0.5", r"$\frac{1}{2}$") == 1


def test_a_reply_without_an_answer_is_told_from_a_wrong_one() -> None:
    asked = BenchmarkQuestion("q", PLAIN, (), ("5",))
    assert Relaxed().score(asked, "I see\ntwo bars").read is None
    verdict = Relaxed().score(asked, "Answer: 7 cm")
    assert (verdict.points, verdict.read) == (0, "7 cm")


@pytest.mark.parametrize("golds", [(), ("",), ("  ",), ("5", ""), ("[]",), ("['a', '']",), ("[1,,2]",)])
def test_an_unusable_gold_answer_is_said(golds: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="gold answer"):
        Relaxed().check(BenchmarkQuestion("q", PLAIN, (), golds))


def test_usable_gold_answers_pass() -> None:
    for gold in ("5", "Yes", "[1, 2]", "['a']", "5 [km]", "?"):
        Relaxed().check(BenchmarkQuestion("q", PLAIN, (), (gold,)))


@given(gold=st.text(max_size=60), answer=st.text(max_size=60), year=st.booleans())
def test_any_two_texts_are_compared(gold: str, answer: str, year: bool) -> None:
    assert 0 <= points(gold, answer, year=year) <= 1


HARD = [
    *"0123456789.,%$€-−+/'’ [](){}eEx×^·½²:;\n",
    "million",
    "k",
    "year",
    "about ",
    "10^3",
    "1,234",
    "'a'",
    '"b"',
    " and ",
]


@given(
    gold=st.lists(st.sampled_from(HARD), max_size=25).map("".join),
    answer=st.lists(st.sampled_from(HARD), max_size=25).map("".join),
)
def test_any_mixture_of_digits_and_marks_is_compared(gold: str, answer: str) -> None:
    assert 0 <= points(gold, answer, year=False) <= 1


@given(gold=st.text(max_size=60))
def test_every_gold_answer_is_right_for_itself(gold: str) -> None:
    assert points(gold, gold, year=False) == points(gold, gold, year=True) == 1


@given(number=st.decimals(-(10**9), 10**9, places=3), scale=st.integers(-12, 12))
def test_numbers_are_right_up_to_five_percent_of_the_gold_value_and_no_further(number: object, scale: int) -> None:
    from decimal import Decimal

    gold = Decimal(str(number))
    assume(gold != 0)
    said = gold * (100 + Decimal(scale) / 2) / 100
    assert points(f"{gold:f}", f"{said:f}", year=False) == float(abs(scale) <= 10)


@pytest.mark.parametrize("part", [*HARD, "1,", "1 ", "1.", "$-", "1/", "1 million ", "['a', ", "[", "9" * 50])
def test_long_answers_are_compared_in_time(part: str) -> None:
    long = part * (25_000 // len(part))
    points("5", long, year=False)
    points("['a', 'b']", long, year=False)
    points(long[:2000], long, year=False)
