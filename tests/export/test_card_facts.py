"""Anybody's text on a card stays text."""

import re

from hypothesis import given
from hypothesis import strategies as st

from caprl_core.export.card_facts import code, fenced, size_category, table

texts = st.text(alphabet=st.sampled_from("ab `|\n<*_#"), max_size=30)


@given(texts)
def test_a_block_ends_only_at_its_own_fence(text: str) -> None:
    lines = fenced(text).split("\n")
    fence = lines[0].removesuffix("text")
    assert re.fullmatch("`{3,}", fence) and lines[-1] == fence
    assert all(fence not in line for line in lines[1:-1])


@given(texts, texts)
def test_a_cell_stays_a_cell(first: str, second: str) -> None:
    lines = table(("a", "b"), [(code(first), code(second))]).split("\n")
    assert len(lines) == 3 and len(re.findall(r"(?<!\\)\|", lines[2])) == 3


@given(texts)
def test_inline_code_is_longer_fenced_than_any_run_in_it(text: str) -> None:
    shown = code(text)
    if not text.split():
        assert shown == "(empty)"
    else:
        fence = re.match("`+", shown)[0]  # type: ignore[index]
        assert shown.endswith(fence) and fence not in re.findall("`+", shown[len(fence) : -len(fence)])


def test_sizes_are_the_hubs() -> None:
    assert [size_category(rows) for rows in (0, 999, 1_000, 2_000_000, 10_000_000)] == [
        "n<1K", "n<1K", "1K<n<10K", "1M<n<10M", "n>10M",
    ]  # fmt: skip
