"""The page of a run: one file that runs and fetches nothing, says every figure, and shows hostile text as text."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from caprl_core.prism.finish import finish
from caprl_core.prism.page.choosing import MOST, OUTCOMES, ChosenAnswer
from caprl_core.prism.page.examples import Example
from caprl_core.prism.page.prism_page import prism_page
from caprl_core.prism.question import BenchmarkQuestion
from caprl_core.prism.results.run_result import ImageFigures, RunResult
from caprl_core.qa.page.thumbnails import MOST_BYTES, MOST_SIDE, NoThumbnail, Thumbnail
from support.judged_prism import About, Said, prism_recipe, right, run_prism, write_questions
from support.made_runs import JUDGE, Points, made_result
from support.page_reader import Read, read_harmless

HOSTILE = (
    "</p></style></title><script>alert(1)</script><img src=x onerror=alert(2)>\" onload='x' \u202egnp.exe\x00\ud800"
)
POINTS: Points = {
    name: {f"{name}-{image}": {f"q{image}": [1.0, 0.0, 0.5, None]} for image in range(20)}
    for name in ("charts", "maps")
}
PICTURE = Thumbnail(b"\xff\xd8\xff jpeg", 320, 200)


def example(outcome: Any = "right", benchmark: str = "charts", **changes: Any) -> Example:
    """An answer to a question with options; `changes` are fields of its parts."""
    fields: dict[str, Any] = {
        "image": "charts-1", "question": "q1", "read": "B", "points": 1.0, "released": None, "scorer": "choice",
        "text": "Which bar is the tallest?", "options": ("the red one", "the blue one"), "answers": ("B",),
        "caption": "Two bars, the blue one taller.", "reply": "It is the blue one.\nAnswer: B", "tokens": 7,
        "cut": "stop", "judge_cut": "stop", "picture": PICTURE,
    } | changes  # fmt: skip
    return Example(
        ChosenAnswer(
            benchmark, fields["image"], fields["question"], 1, outcome, fields["points"], fields["released"],
            fields["scorer"], fields["read"],
        ),
        BenchmarkQuestion(fields["question"], fields["text"], tuple(fields["options"]), tuple(fields["answers"])),
        {"text": fields["caption"], "tokens": fields["tokens"], "finish_reason": fields["cut"]},
        4,
        {"reply": fields["reply"], "finish_reason": fields["judge_cut"], "tokens": 9, "failure": None},
        fields["picture"],
    )  # fmt: skip


def shown(result: RunResult | None = None, examples: Sequence[Example] = ()) -> Read:
    return read_harmless(prism_page(result or made_result(POINTS)[0], examples))


def card_of(one: Example) -> str:
    said = shown(examples=[one]).said()
    return said[said.index("1. charts") : said.index("How this was measured Run")]


# The figures


def test_every_figure_of_the_result_is_said() -> None:
    result = made_result(POINTS, released="math")[0]
    read = shown(result)
    said = read.said()
    for part in (
        "Prism: lab/captioner",
        "Mean score 50.0",
        "Best of all captions 100.0",
        "Released mean 50.0",
        "Answers 120 to 40 questions",
        "No answer found 33.3 % of the judge's replies",
        "multiple choice; released: math",
        "115 tokens",
        "25.0 %",
    ):
        assert part in said
    assert "charts 20 20 50.0" in re.sub(r"multiple choice; released: math ", "", said)
    assert "macro average plain mean of 2 benchmarks" in said


def test_the_chart_tells_every_score_with_its_interval() -> None:
    result = made_result(POINTS, released="math")[0]
    told = shown(result).charts()["Scores by benchmark"]
    for one in result.benchmarks:
        assert one.mean is not None and one.mean.low is not None and one.mean.high is not None
        interval = f"50.0 ({100 * one.mean.low:.1f} to {100 * one.mean.high:.1f})"
        assert f"{one.name}: our scorers {interval}, as the released script scores {interval}" in told
    assert "macro average" in told


def test_without_a_released_scoring_nothing_is_said_of_it() -> None:
    read = shown()
    assert "eleased" not in read.said() and "released" not in read.charts()["Scores by benchmark"]


def test_a_run_that_is_not_finished_says_so_first() -> None:
    result, _ = made_result(POINTS, partial=True)
    pending = ImageFigures(planned=25, judged=20, pending=5, rejected={"captions": {"image_corrupt": 2}})
    some = tuple(one.model_copy(update={"images": pending}) for one in result.benchmarks)
    said = shown(result.model_copy(update={"benchmarks": some})).said()
    assert "Not finished: 10 images are still to be judged" in said
    assert "charts captions image corrupt 2" in said
    assert "Not finished" not in shown().said()


def test_where_every_figure_comes_from_is_told() -> None:
    said = shown().said()
    for part in ("result", "lab/judge @ abc", "choice: {caption} {question}", "temperature 0.0", "none offered",
                 "captions.jsonl", "0" * 64, "a" * 64, "scripted 1.2", "bootstrap", "scores.parquet"):  # fmt: skip
        assert part in said


def test_a_run_without_any_answer_has_a_page() -> None:
    said = shown(made_result({"charts": {"a": {"q": [None, None]}}})[0]).said()
    assert "Mean score —" in said and "There is no answer with points yet" in said


def test_the_same_arguments_give_the_same_bytes() -> None:
    result = made_result(POINTS)[0]
    examples = [example(), example("wrong")]
    assert prism_page(result, examples) == prism_page(result, examples)


# The examples


def test_a_card_shows_caption_question_answer_gold_and_points() -> None:
    said = card_of(example("wrong", read="A", points=0.0, released=1.0, reply="The red one. Answer: A"))
    for part in (
        "✗ Wrong",
        "Which bar is the tallest?",
        "A) the red one ← the judge",
        "B) the blue one ✓ right",
        "Judge's answer A Right answer B Points 0 (choice); 1 by the released rules",
        "The red one. Answer: A",
        "Caption 2 of 4, all that the judge was told, 7 tokens",
        "Two bars, the blue one taller.",
        "Sample charts-1, question q1.",
    ):
        assert part in said


def test_an_open_question_shows_its_right_answers() -> None:
    said = card_of(
        example(options=(), answers=("seven", "7", "VII", "sieben", "sept", "sette"), read="seven", scorer="match")
    )
    assert "Right answer seven, 7, VII, sieben, sept and 1 more" in said
    assert "A)" not in said


def test_what_was_cut_or_not_found_is_said() -> None:
    said = card_of(example("unparsed", read=None, points=0.0, cut="length", judge_cut="length"))
    assert "? No answer found" in said and "Judge's answer none found , reply cut at its limit" in said
    assert "7 tokens, cut at its limit" in said


def test_a_picture_that_is_missing_says_why() -> None:
    assert "No picture: image_missing" in card_of(example(picture=NoThumbnail("image_missing: gone")))


def test_long_captions_scroll_and_can_be_reached_by_the_keyboard() -> None:
    read = shown(examples=[example(caption="word " * 200), example(caption="short")])
    reachable = [one for tag, one in read.elements if tag == "div" and one.get("tabindex") == "0"]
    assert len(reachable) == 1 and "Caption 2 of 4" in (reachable[0]["aria-label"] or "")


# The buttons


def test_every_benchmark_and_outcome_has_a_button_with_its_count() -> None:
    examples = [example("right"), example("wrong"), example("wrong", "maps"), example("unparsed", "maps")]
    read = shown(examples=examples)
    labels = re.findall(
        r"<label for=\"([^\"]+)\">([^<]+)</label>", prism_page(made_result(POINTS)[0], examples).decode()
    )
    assert labels == [
        ("b-all", "All 4"), ("b0", "charts 2"), ("b1", "maps 2"),
        ("o-all", "All 4"), ("o0", "Right 1"), ("o1", "Wrong 2"), ("o2", "No answer found 1"),
    ]  # fmt: skip
    inputs = read.tags("input")
    assert [one["id"] for one in inputs] == [name for name, _ in labels]
    assert {one["type"] for one in inputs} == {"radio"}
    assert [one["id"] for one in inputs if "checked" in one] == ["b-all", "o-all"]


def cards_left(page: str, *checked: str) -> list[bool]:
    """Which cards a browser leaves, by the rules of the style sheet; the last is the note that none is left."""
    style = page.partition("<style>")[2].partition("</style>")[0]
    hiding = re.findall(r"\.browser:has\(#(\w+):checked\) \.card:not\(\.(\w+)\) \{ display: none; \}", style)
    telling = re.findall(r"\.browser:has\(#(\w+):checked\):has\(#(\w+):checked\) \.none \{ display: block; \}", style)
    classes = [set(found.split()) for found in re.findall(r'<article class="(card[^"]*)"', page)]
    left = [not any(button in checked and name not in own for button, name in hiding) for own in classes]
    return [*left, any(set(pair) <= set(checked) for pair in telling)]


def test_the_buttons_leave_the_cards_of_their_kind() -> None:
    examples = [example("right"), example("wrong"), example("wrong", "maps")]
    page = prism_page(made_result(POINTS)[0], examples).decode()
    assert cards_left(page, "b-all", "o-all") == [True, True, True, False]
    assert cards_left(page, "b0", "o-all") == [True, True, False, False]
    assert cards_left(page, "b-all", "o1") == [False, True, True, False]
    assert cards_left(page, "b1", "o0") == [False, False, False, True]


def test_every_outcome_has_words_of_its_own() -> None:
    read = shown(examples=[example(outcome) for outcome in OUTCOMES])
    assert len(read.tags("input")) == 2 + 1 + len(OUTCOMES)


# Hostile text


def test_hostile_text_anywhere_is_shown_and_does_nothing() -> None:
    hostile = dict.fromkeys(("id", "text", "system"), HOSTILE)
    judge = {
        "model": {"name": HOSTILE, "revision": HOSTILE},
        "prompt": hostile,
        "open_prompt": hostile,
        "abstain": HOSTILE,
    }
    result = made_result(POINTS, HOSTILE.encode("utf-8", "replace").decode(), judge=JUDGE | judge, run=HOSTILE)[0]
    one = result.benchmarks[0].model_copy(
        update={
            "name": HOSTILE,
            "scorer": HOSTILE,
            "open_scorer": HOSTILE,
            "images": ImageFigures(planned=1, judged=0, pending=0, rejected={HOSTILE: {HOSTILE: 1}}),
        }
    )
    result = result.model_copy(update={"benchmarks": (one,), "datasets": {HOSTILE: HOSTILE}, "judged": HOSTILE})
    fields = dict.fromkeys(
        ("image", "question", "text", "caption", "reply", "scorer", "read", "cut", "judge_cut"), HOSTILE
    )
    examples = [
        example("right", HOSTILE, **fields, options=(HOSTILE, "b"), answers=(HOSTILE, "B")),
        example("wrong", HOSTILE, **fields, options=(), answers=(HOSTILE,), picture=NoThumbnail(HOSTILE)),
    ]
    page = prism_page(result, examples)
    read = read_harmless(page)
    assert "<script>alert(1)</script>" in read.said()
    assert not set("\u202e\x00") & set(page.decode())


def test_the_worst_examples_stay_below_six_megabytes() -> None:
    long = "\u202e&" * 100_000
    fields = dict.fromkeys(("image", "question", "text", "caption", "reply", "read"), long)
    picture = Thumbnail(b"\xff" * MOST_BYTES, MOST_SIDE, MOST_SIDE)
    worst = example("wrong", **fields, options=(long,) * 10, answers=(long,) * 100, picture=picture)
    page = prism_page(made_result(POINTS)[0], [worst] * MOST)
    assert 3_000_000 < len(page) < 6_000_000


# A real run


@pytest.mark.parametrize("taken", [False, True], ids=["captioner", "file"])
def test_a_real_run_shows_its_pictures_captions_and_replies(tmp_path: Path, taken: bool) -> None:
    write_questions(tmp_path, "colours", 8, 2)
    write_questions(tmp_path, "numbers", 6, 2)
    changes: dict[str, Any] = {}
    if taken:
        names = [*(f"colours-{n}.png" for n in range(8)), *(f"numbers-{n}.png" for n in range(6))]
        rows = [f'{{"image": "{name}", "caption": "caption 0 of picture x"}}\n' for name in names]
        (tmp_path / "captions.jsonl").write_text("".join(rows))
        changes = {"captioner": None, "captions": {"name": "theirs", "uri": str(tmp_path / "captions.jsonl")}}
    recipe = prism_recipe(tmp_path, {"colours": {"scorer": "choice"}, "numbers": {"scorer": "match"}}, **changes)

    def judge(about: About) -> Said:
        return (
            right(about)
            if about.question
            else Said("Answer: <b>C</b>" if about.benchmark == "colours" else "Answer: 3")
        )

    run_prism(recipe, judge)
    if taken:
        (tmp_path / "pictures" / "colours-0.png").write_bytes(b"\x89PNG\r\n\x1a\n broken since")
        (tmp_path / "pictures" / "colours-1.png").unlink()
    read = read_harmless((Path(finish(recipe).folder) / "index.html").read_bytes())
    cards = [one for tag, one in read.elements if tag == "article"]
    said = read.said()
    assert len(cards) == 24 and len(read.tags("img")) + said.count("No picture: ") == 24
    assert "caption 0 of picture" in said and "Answer: <b>C</b>" in said
    if taken:
        assert "image_corrupt" in said and "image_missing" in said
    else:
        assert "No picture" not in said
