"""Repeat a call that may fail for a moment, with jittered exponential pauses."""

import random
import time
from collections.abc import Callable
from itertools import count
from typing import TypeVar

T = TypeVar("T")

FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 20.0


def pause_s(attempt: int) -> float:
    """Seconds to wait after failure number `attempt` (0-based): "full jitter", uniform up to a doubling ceiling."""
    return random.uniform(0, min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** min(attempt, 16)))


def retried(call: Callable[[], T], *, passing: Callable[[Exception], bool], retries: int, budget_s: float) -> T:
    """The result of `call`, repeated up to `retries` times within `budget_s` seconds while its error is `passing`.

    Raises the last error of `call`.
    """
    deadline = time.monotonic() + budget_s
    for attempt in count():
        try:
            return call()
        except Exception as error:
            pause = pause_s(attempt)
            if attempt >= retries or not passing(error) or time.monotonic() + pause > deadline:
                raise
        time.sleep(pause)
    raise AssertionError("unreachable")
