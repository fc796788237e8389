"""Lengths of captions are summed up exactly."""

import statistics

from hypothesis import given
from hypothesis import strategies as st

from caprl_core.export.caption_lengths import CaptionLengths


def rows(lengths: list[int]) -> list[dict[str, object]]:
    return [
        {"caption": "x" * n, "completion_tokens": n // 4, "finish_reason": "length" if n % 7 == 0 else "stop"}
        for n in lengths
    ]


@given(st.lists(st.integers(0, 300), min_size=1, max_size=60))
def test_summaries_are_those_of_the_sorted_list(lengths: list[int]) -> None:
    counted = CaptionLengths()
    for row in rows(lengths):
        counted.add(row)
    found, ranked = counted.summaries()["characters"], sorted(lengths)
    assert (found.least, found.most) == (ranked[0], ranked[-1])
    assert abs(found.mean - statistics.fmean(ranked)) < 1e-9
    for share, value in zip((0.05, 0.5, 0.95), found.quantiles, strict=True):
        assert sum(n <= value for n in ranked) >= share * len(ranked) > sum(n < value for n in ranked)
    assert counted.truncated == sum(n % 7 == 0 for n in lengths)


def test_of_nothing_there_is_no_summary() -> None:
    assert CaptionLengths().summaries() == {}
