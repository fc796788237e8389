"""What counts as a caption."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caprl_core.captioning import checks
from caprl_core.captioning.stage import CaptionStage
from caprl_core.data.sample import PlannedSample
from caprl_core.engines.protocol import Reply
from caprl_core.shards.stage import Drop, Row
from support.drawn_dataset import recipe_for

REFUSALS = [
    "I'm sorry, but I can't help with that.",
    "I\u2019m sorry, I cannot describe this image.",
    "  I cannot assist with identifying people.",
    "As an AI language model, I do not see images.",
    "I am unable to view the image you sent.",
    "抱歉，我无法描述这张图片。",
]
CAPTIONS = [
    'The image shows a sign that reads "I\'m sorry, we are closed".',
    "I can see a dog running over a lawn.",
    "A woman who is unable to reach the shelf asks for help.",
    "Sorrel horses graze on a hill.",
    "As an airliner climbs, its shadow falls on the clouds.",
]


@pytest.mark.parametrize("text", REFUSALS)
def test_openings_that_decline_are_refusals(text: str) -> None:
    assert checks.is_refusal(text)


@pytest.mark.parametrize("text", CAPTIONS)
def test_captions_that_mention_refusals_are_captions(text: str) -> None:
    assert not checks.is_refusal(text)


def test_loops_are_found_whatever_their_unit() -> None:
    opening = "The chart compares the sales of five regions over ten years. "
    assert checks.is_repetitive(opening + "The bar is blue. " * 40)
    assert checks.is_repetitive(opening + "1" * 500)
    assert checks.is_repetitive(opening + "the red car and the blue car near the old house by " * 12)
    assert checks.is_repetitive("图像中有一个人。" * 30)


def test_lists_and_tables_are_not_loops() -> None:
    table = "\n".join(f"| {year} | {year * 7 % 83} % | {year * 3 % 41} |" for year in range(1990, 2024))
    assert not checks.is_repetitive(table)
    assert not checks.is_repetitive(
        ", ".join(f"a {colour} car" for colour in ("red", "blue", "green", "black", "white"))
    )
    assert not checks.is_repetitive("A dog. A dog. A dog.")
    assert not checks.is_repetitive("-" * 40)


def test_chat_tokens_and_the_prompt_itself_are_leaks() -> None:
    prompt = "Please describe this image in detail."
    assert checks.leaks_prompt("A cat<|im_end|>\n<|im_start|>user", prompt)
    assert checks.leaks_prompt("please  describe this image\nin detail. The image shows a cat.", prompt)
    assert not checks.leaks_prompt(
        "The image shows a cat. Someone wrote: Please describe this image in detail.", prompt
    )
    assert not checks.leaks_prompt("HTML such as <b>bold</b> and a < b | c > d is shown.", prompt)


def test_scripts_are_told_apart_and_digits_count_for_none() -> None:
    assert checks.script_share("A café in Kraków, 1998", "latin") == 1
    assert checks.script_share("一只猫坐在沙发上", "cjk") == 1
    assert checks.script_share("2024: 17 %", "latin") == 1
    assert checks.script_share("ab 猫猫", "latin") == 0.5


@given(st.text(max_size=3000))
def test_no_text_breaks_a_check(text: str) -> None:
    checks.is_refusal(text)
    checks.is_repetitive(text)
    checks.leaks_prompt(text, "Please describe this image in detail.")
    assert checks.visible_characters(text) <= len(text)
    assert 0 <= checks.script_share(text, "latin") <= 1


def test_a_reply_longer_than_its_tokens_can_spell_is_dropped_unread(tmp_path: Path) -> None:
    stage = CaptionStage(recipe_for(tmp_path, str(tmp_path), sampling__max_tokens=64))
    sample = PlannedSample("k", 0, 0, "s", "1.jpg")
    words = " ".join(f"word{number}" for number in range(5000))
    longest = stage.outcome(sample, [Reply(words[: 64 * 256], "stop", 1, 64, 0.1)], 1)
    assert isinstance(longest, Row)
    dropped = stage.outcome(sample, [Reply(words, "stop", 1, 64, 0.1)], 1)
    assert isinstance(dropped, Drop)
    assert (dropped.reason, dropped.retry) == ("unparsable", True)
    assert len(dropped.detail) < 100
