"""What to say when a disk is full."""

import errno
import shutil
from pathlib import Path

FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


def disk_full(error: Exception, folder: Path) -> str | None:
    """The folder, what is free there, and what to do; None if the error has another cause.

    Obstore hands the system's error on as text only: `(os error 28)`.
    """
    full = isinstance(error, OSError) and error.errno in FULL
    if not full and not any(f"(os error {number})" in str(error) for number in FULL):
        return None
    try:
        usage = shutil.disk_usage(folder)
        space = f"{usage.free / 2**20:.1f} MiB of {usage.total / 2**20:.1f} MiB are free"
    except OSError:
        space = "how much is free cannot be told"
    return f"the disk is full, or a quota is: {folder} ({space}). Make room and run the same command again"
