"""What a training process tells the one that watches it: JSON lines on standard output."""

import json
import math
import sys
from collections.abc import Mapping
from typing import Any


def print_event(event: Mapping[str, Any]) -> None:
    """One line, at once; numbers that are none (NaN, infinities) are null."""
    clean = {
        key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in event.items()
    }
    # In one piece: launchers run Python unbuffered, and what another process prints could come before the line's end.
    sys.stdout.write(json.dumps(clean, ensure_ascii=False) + "\n")
    sys.stdout.flush()
