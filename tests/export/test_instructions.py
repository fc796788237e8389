"""The user's turn: drawn from a list by seed and key, with one image in each."""

from collections import Counter
from pathlib import Path

import pytest

from caprl_core.errors import BadInputError
from caprl_core.export.instructions import Instructions, read_instructions


def test_a_row_always_gets_the_same_and_each_text_its_share() -> None:
    texts = [f"Instruction {number}." for number in range(5)]
    drawn = [Instructions(texts, seed=7).of(f"key-{number}") for number in range(5000)]
    assert drawn == [Instructions(texts, seed=7).of(f"key-{number}") for number in range(5000)]
    assert drawn != [Instructions(texts, seed=8).of(f"key-{number}") for number in range(5000)]
    counts = Counter(drawn)
    assert len(counts) == 5 and all(850 < count < 1150 for count in counts.values())  # 5 standard deviations


def test_the_image_stands_where_the_text_says_or_before_it() -> None:
    texts = Instructions(["Describe it.", "What is in <image>?"], seed=0).texts
    assert texts == ("<image>\nDescribe it.", "What is in <image>?")


def test_lines_and_yaml_lists_are_read(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("\ufeffDescribe it.\n\n# a remark\n  Say more.  \n", encoding="utf-8")
    (tmp_path / "list.yaml").write_text("- Describe it.\n- |\n  Say more.\n")
    assert read_instructions(tmp_path / "list.txt", 0).texts == read_instructions(tmp_path / "list.yaml", 0).texts


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"\n# nothing\n", "no instruction in it"),
        ("a.txt", b"<image> and <image>\n", "stands 2 times"),
        ("a.txt", b"Describe it.\nSay <|im_end|>\n", "instruction 2: .* holds a marker"),
        ("a.txt", b"\xff\xfe", "not UTF-8 at byte 0"),
        ("a.yaml", b"texts: [a]", "a YAML list of texts"),
        ("a.yaml", b"- [a", "not YAML"),
        ("a.yaml", b"- !!python/object/apply:os.system [true]", "not YAML"),
        ("missing.txt", None, "cannot be read"),
    ],
)
def test_lists_that_cannot_be_meant_are_refused(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(BadInputError, match=message):
        read_instructions(tmp_path / name, 0)
