"""Local scratch folders that do not outlive their owner: what a killed process left is removed by the next one."""

import fcntl
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PREFIX = "caprl-scratch-"
_LOCK = "owner.lock"


@contextmanager
def scratch_folder(parent: str | None) -> Iterator[Path]:
    """A new folder below `parent` (the system's temporary folder if None), removed on leaving.

    Its owner holds a lock in it; the kernel frees the lock when the owner dies, however it dies. Folders whose lock is
    free are removed first. Raises `OSError` when nothing can be written there.
    """
    base = Path(parent or tempfile.gettempdir())
    base.mkdir(parents=True, exist_ok=True)
    remove_abandoned(base)
    folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=base))
    try:
        with (folder / f"{_LOCK}.new").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Under its name only when it is held: others take a free lock for that of a dead owner.
            (folder / f"{_LOCK}.new").rename(folder / _LOCK)
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def remove_abandoned(base: Path) -> int:
    """Remove the scratch folders below `base` whose owner is dead; returns how many.

    A folder without a lock is being made at this moment, or its owner died before it wrote anything: it is left alone.
    """
    removed = 0
    for folder in base.glob(f"{PREFIX}*"):
        try:
            with (folder / _LOCK).open("r") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder)
        except OSError:
            continue  # in use, gone already, or somebody else's
        removed += 1
    return removed
