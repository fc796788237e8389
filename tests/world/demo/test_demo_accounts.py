"""After a kill every sample is accounted for, or the demo says what is wrong."""

import pytest

from caprl_core.world.demo.annotating import Stored, account
from caprl_core.world.demo.commands import DemoError


def summary(*, asked: int, resumed: int) -> dict[str, object]:
    return {"event": "summary", "samples": 40, "samples_asked": asked, "samples_resumed": resumed}


def test_samples_are_committed_taken_from_the_log_or_asked() -> None:
    said = account(Stored(committed=16, logged=9), summary(asked=15, resumed=9))
    assert "committed before 16 + taken from the log 9 + asked now 15 = 40 samples" in said


@pytest.mark.parametrize(
    ("asked", "resumed"),
    [
        pytest.param(24, 0, id="what was logged is asked again"),
        pytest.param(14, 9, id="one is lost"),
        pytest.param(16, 9, id="one is asked twice"),
    ],
)
def test_a_sample_lost_or_asked_twice_ends_the_demo(asked: int, resumed: int) -> None:
    with pytest.raises(DemoError, match="lost or captioned twice"):
        account(Stored(committed=16, logged=9), summary(asked=asked, resumed=resumed))
