"""What a server says about retrying is understood, or ignored where it is nonsense."""

import datetime
import email.utils

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caprl_core.engines.openai_failures import LONGEST_RETRY_AFTER_S, retry_after


@pytest.mark.parametrize(("header", "seconds"), [("3", 3.0), ("0", 0.0), ("1.5", 1.5), ("9999", LONGEST_RETRY_AFTER_S)])
def test_seconds(header: str, seconds: float) -> None:
    assert retry_after(header) == seconds


def test_a_date() -> None:
    later = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=60)
    seconds = retry_after(email.utils.format_datetime(later, usegmt=True))
    assert seconds is not None
    assert 0 < seconds <= 60


@pytest.mark.parametrize("header", [None, "", "soon", "nan", "-1", "inf-", "Wed, 99 Foo 2020"])
def test_nonsense_asks_for_nothing(header: str | None) -> None:
    assert retry_after(header) is None


@given(st.text(st.characters(max_codepoint=255)))
def test_any_header_is_survived(header: str) -> None:
    seconds = retry_after(header)
    assert seconds is None or 0 <= seconds <= LONGEST_RETRY_AFTER_S
