"""Which GPUs a lane may have. Asks no CUDA: a process that only hands GPUs out must not open one."""

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence

from caprl_core.errors import BadInputError

QUERY_S = 30.0
"""Seconds `nvidia-smi` may take: with many GPUs and no persistence daemon it takes several."""


def visible_devices(environment: Mapping[str, str] = os.environ) -> list[str]:
    """Ids as `CUDA_VISIBLE_DEVICES` names them; where it is not set, all that the driver lists; empty without GPUs."""
    named = environment.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return list(dict.fromkeys(name.strip() for name in named.split(",") if name.strip() not in ("", "-1")))
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    try:
        found = subprocess.run(  # noqa: S603 - the driver's own program and constant arguments
            [program, "--query-gpu=index", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=QUERY_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    return found.stdout.split() if found.returncode == 0 else []


def device_groups(devices: Sequence[str], each: int, lanes: int) -> list[str | None]:
    """One value of `CUDA_VISIBLE_DEVICES` a lane, no device in two of them; `lanes` 0 is as many as there are.

    `each` is how many GPUs one engine is split over. Without devices, lanes get None: theirs stays unset. Raises
    `BadInputError` when there are fewer devices than the lanes need, or neither devices nor a number of lanes.
    """
    if not devices:
        if lanes == 0:
            raise BadInputError("lanes: no GPU is visible here, so say how many lanes there shall be")
        return [None] * lanes
    groups = [",".join(devices[at : at + each]) for at in range(0, len(devices) - each + 1, each)]
    if not groups or lanes > len(groups):
        raise BadInputError(
            f"lanes: {lanes or 1} lanes of {each} GPUs need {(lanes or 1) * each}, but {len(devices)} are visible "
            f"({','.join(devices)}); two lanes never share one"
        )
    return list(groups[: lanes or None])
