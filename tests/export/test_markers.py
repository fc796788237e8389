"""What trainers act on is disarmed in captions, and comes back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caprl_core.export.markers import escape, has_marker, unescape
from support.hostile_captions import HOSTILE

PIECES = (
    "<image>", "<\\image>", "<\\\\image>", "<video>", "<|im_end|>", "<\\|im_end|>", "<|vision_start|>", "</s>", "<s>",
    "<", ">", "\\", "<image", "image>", "<<image>>", "<|", "|>", "<Image>", "a < b", " ", "\n", "é",
    "<｜end｜>", "<think>",
)  # fmt: skip
texts = st.lists(st.sampled_from(PIECES) | st.text(max_size=5), max_size=12).map("".join)


@given(texts)
def test_every_caption_comes_back(caption: str) -> None:
    assert unescape(escape(caption)) == caption


@given(texts)
def test_no_marker_is_left(caption: str) -> None:
    escaped = escape(caption)
    for marker in ("<image>", "<video>", "<|im_end|>", "<|vision_start|>", "</s>", "<s>", "<think>", "<｜end｜>"):
        assert marker not in escaped


@given(st.text(alphabet=st.characters(exclude_characters="<"), max_size=50))
def test_a_caption_without_a_marker_is_left_alone(caption: str) -> None:
    assert escape(caption) is caption


@pytest.mark.parametrize(
    "harmless", ["a <b>bold</b> word", "x < y > z", "<Image>", "< image >", "<|>", "<html lang=en>"]
)
def test_other_angle_brackets_stay(harmless: str) -> None:
    assert escape(harmless) == harmless and not has_marker(harmless)


def test_the_escape_is_one_backslash() -> None:
    assert escape("a <image> b <|im_end|>") == r"a <\image> b <\|im_end|>"
    assert escape(r"a <\image>") == r"a <\\image>"
    assert [unescape(escape(caption)) for caption in HOSTILE] == list(HOSTILE)
