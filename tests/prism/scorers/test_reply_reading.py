"""Finding the answer in a judge's reply."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caprl_core.prism.scorers.latex import as_text, boxed
from caprl_core.prism.scorers.reply import LINE_CHARACTERS, find_answer

FOUND = {
    # the last line that our prompts ask for
    "Answer: 42": "42",
    "The bar reaches 42.\n\nAnswer: 42": "42",
    "**Answer:** 42": "42",
    "**Answer: 42**": "42",
    "answer: **Coca Cola**": "Coca Cola",
    "The answer is 12.": "12",
    "The final answer is: 5": "5",
    "So the correct answer is Paris.": "Paris",
    "Answer - 5": "5",
    "Answer:\n\n42 cm": "42 cm",
    "### Answer\n**Paris**": "Paris",
    "It grows.\n\n**Final Answer**\n\n7": "7",
    "The answer to the question is 5.": "5",
    "The answer should be 5": "5",
    "Answer: 'the big one'": "the big one",
    'Answer: "A" or "B"': '"A" or "B"',
    # the last of several
    "Answer: 3\nWait, the bar is higher.\nAnswer: 4": "4",
    # several scripts
    "答案：北京": "北京",
    "答案是：北京。": "北京",
    "正解：東京": "東京",
    "Réponse : Paris": "Paris",
    "Antwort: 42": "42",
    "Ответ: 42": "42",
    "정답: 42": "42",
    # reasons end an answer, and so does a sentence's full stop, but not an abbreviation's
    "The answer is 12 because the bar ends there.": "12",
    "Answer: blue, as shown in the legend.": "blue",
    "答案：蓝色，因为图例如此": "蓝色",
    "Answer: 3.5.": "3.5",
    "Answer: U.S.": "U.S.",
    "Answer: Apple Inc.": "Apple Inc.",
    "Answer: 5 p.m.": "5 p.m.",
    "Answer: Coca Cola...": "Coca Cola...",
    # boxes and tags
    r"\boxed{5}": "5",
    r"We get $\boxed{\frac{1}{2}}$.": r"\frac{1}{2}",
    r"first \boxed{1}, then \boxed{2}": "2",
    r"\boxed{\boxed{3}}": "3",
    r"\boxed{a {b} c}": "a {b} c",
    r"\boxed{\{1, 2\}}": r"\{1, 2\}",
    r"a { stray brace and \boxed{5}": "5",
    r"\boxed{5} and then \boxed{6": "5",
    r"\fbox{5}": "5",
    r"Answer: $\boxed{\text{Yes}}$": r"\text{Yes}",
    r"<think>maybe \boxed{1}</think><answer>it is \boxed{2}</answer>": "2",
    "<answer>Paris</answer>": "Paris",
    "<answer>Paris\nFrance</answer>": "Paris France",
    "<answer>Paris": "Paris",
    "<answer>1</answer> no, <answer>2</answer>": "2",
    "The box says 3. <answer>4</answer>": "4",
    "<ANSWER>4</ANSWER>": "4",
    r"\boxed{1} <answer>Answer: 2</answer>": "2",
    # a thought says nothing
    "<think>Answer: 3</think>4": "4",
    "Answer: 3</think>\n\nAnswer: 4": "4",
    # a reply of one line
    "42": "42",
    "$5$": "5",
    "$5": "$5",
    "about 12 km": "about 12 km",
    "`blue`": "blue",
}

NOT_FOUND = [
    "",
    " \n\t ",
    "The chart shows two bars.\nThe left one is higher.",
    "<think>The bar is at 42 and",
    "<think>a</think><think>Answer: 42",
    "Answer:",
    "Answer: **",
    "<answer></answer>",
    "<answer> </answer>",
    r"\boxed{}" + "\nso\nthat",
    r"so" + "\n" + r"\boxed{12",
    "word " * 80,
    "Answer: " + "word " * 80,
]


@pytest.mark.parametrize("reply", FOUND)
def test_the_answer_is_found(reply: str) -> None:
    assert find_answer(reply) == FOUND[reply]


@pytest.mark.parametrize("reply", NOT_FOUND)
def test_a_reply_that_comes_to_nothing_has_no_answer(reply: str) -> None:
    assert find_answer(reply) is None


@given(reply=st.text(max_size=300))
def test_any_text_is_read(reply: str) -> None:
    answer = find_answer(reply)
    assert answer is None or (answer.strip() == answer != "")


PARTS = [
    *(
        "<think>",
        "</think>",
        "<answer>",
        "</answer>",
        "\\boxed{",
        "\\boxed",
        "{",
        "}",
        "\\",
        "\\{",
        "Answer:",
        "answer ",
    ),
    *(
        "is",
        " ",
        "\n",
        "**",
        "*",
        "_",
        "`",
        "$",
        "(",
        ")",
        "because",
        ", since the",
        "答案",
        "：",
        ".",
        "。",
        '"',
        "x",
        "42",
    ),
    *(
        "\u2028",
        "\x00",
        "\ud800",
        "\u200b",
        "İ",
        "\\text{",
        "\\frac{1}{2}",
        "{,}",
        "\\%",
        "#",
        "the final answer",
        "=",
        "-",
    ),
]


@given(reply=st.lists(st.sampled_from(PARTS), max_size=60).map("".join))
def test_any_mixture_of_marks_is_read(reply: str) -> None:
    find_answer(reply)
    boxed(reply)
    as_text(reply)


@pytest.mark.parametrize(
    "part", [*PARTS, "\\boxed{}", "\\boxed{a}", "a, because ", "\n#*_> ", "the answer ", "(" * 50, "Answer: ("]
)
def test_replies_of_twenty_thousand_characters_are_read(part: str) -> None:
    # With a pattern of quadratic time one of these would take minutes: the suite's time limit is the judge.
    long = part * (25_000 // len(part))
    for reply in (long, f"Answer: {long}", f"<answer>{long}", f"\\boxed{{{long}", f"{long}\nAnswer: 42"):
        find_answer(reply)
        as_text(reply)


@given(answer=st.text(st.characters(categories=["Lu", "Ll", "Nd"], exclude_characters="İ"), min_size=1, max_size=40))
def test_a_plain_answer_comes_back_from_every_form(answer: str) -> None:
    for form in ("Answer: {}", "<answer>{}</answer>", "so\nit is\n\\boxed{{{}}}", "<think>1</think>\\boxed{{{}}}"):
        assert find_answer(form.format(answer)) == answer


def test_an_essay_of_one_line_is_no_answer_and_a_short_line_is() -> None:
    assert find_answer("x" * LINE_CHARACTERS) == "x" * LINE_CHARACTERS
    assert find_answer("x" * (LINE_CHARACTERS + 1)) is None


SHOWN = {
    r"\text{Yes}": "Yes",
    r"\textbf{\text{Yes}}": "Yes",
    r"45\%": "45%",
    r"\$5.2": "$5.2",
    r"1{,}234": "1,234",
    r"1\,234": "1234",
    r"\frac{1}{2}": "1/2",
    r"\dfrac{3}{4}": "3/4",
    r"30^\circ": "30°",
    r"30^{\circ}\text{C}": "30°C",
    r"\(5\)": "5",
    r"$\text{5 km}$": "5 km",
    r"5 \times 10^3": "5 × 10^3",
    r"\left(5\right)": "(5)",
    r"A\&B": "A&B",
    "$5 and $6": "$5 and $6",
    r"C:\dir": r"C:\dir",
    r"\alpha": r"\alpha",
}


@pytest.mark.parametrize("answer", SHOWN)
def test_simple_latex_is_read_as_what_it_shows(answer: str) -> None:
    assert as_text(answer) == SHOWN[answer]


@given(text=st.text(st.characters(exclude_characters="\\{"), max_size=60))
def test_text_without_latex_stays_as_it_is(text: str) -> None:
    assert as_text(text) == text
